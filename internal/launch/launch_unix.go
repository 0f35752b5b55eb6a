//go:build !windows

package launch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/kubeshore/kubeshore/internal/daemon"
	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/machine"
)

// keeperEnv has the descriptor of the connection to the keeper that started this
// process as its daemon.
const keeperEnv = "KUBESHORE_KEEPER"

// Foreground runs a daemon with the rights of the process or, if these aren't
// enough, with those that sudo gives to a keeper. Under sudo it becomes the
// keeper of a daemon that it starts as the user.
func Foreground(ctx context.Context, o Options, d daemon.Options, log *logrus.Logger) error {
	conn, err := inheritedKeeper()
	if err != nil {
		return err
	}
	if conn != nil {
		return daemon.Run(ctx, d, log, func(ctx context.Context) (machine.Machine, error) {
			return machine.OpenByKeeper(ctx, conn, d.Machine)
		})
	}
	target, err := o.targetUser()
	switch {
	case err != nil:
		return err
	case o.Rootless && target != nil:
		return errRootlessUnderSudo
	case o.Rootless:
		return daemon.Run(ctx, d, log, func(ctx context.Context) (machine.Machine, error) {
			return machine.OpenRootless(ctx, d.Machine, log)
		})
	case os.Geteuid() != 0:
		return daemon.Run(ctx, d, log, func(ctx context.Context) (machine.Machine, error) {
			conn, err := startKeeperViaSudo(ctx, d.Machine)
			if err != nil {
				return machine.Machine{}, err
			}
			return machine.OpenByKeeper(ctx, conn, d.Machine)
		})
	case target != nil:
		return runAsUser(ctx, target, d.Machine, log)
	}
	return daemon.Run(ctx, d, log, func(ctx context.Context) (machine.Machine, error) {
		m, guard, err := openGuarded(ctx, d.Machine, log)
		if err != nil {
			return machine.Machine{}, err
		}
		m.Notice = "running as root, including credential plugins; use --user NAME to drop privileges"
		return machine.WithGuard(m, guard), nil
	})
}

// inheritedKeeper returns the connection to the keeper that started this process;
// nil if none did. Child processes don't inherit it. Root ignores the variable,
// because sudo may have passed it on from anybody.
func inheritedKeeper() (*net.UnixConn, error) {
	descriptor := os.Getenv(keeperEnv)
	if descriptor == "" || os.Geteuid() == 0 {
		return nil, nil //nolint:nilnil // no keeper is not an error
	}
	fd, err := strconv.ParseUint(descriptor, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("invalid %s %q: must be a file descriptor", keeperEnv, descriptor)
	}
	if err := os.Unsetenv(keeperEnv); err != nil {
		return nil, err
	}
	conn, err := fileConn(os.NewFile(uintptr(fd), "keeper"))
	if err != nil {
		return nil, fmt.Errorf("invalid %s %q: %w", keeperEnv, descriptor, err)
	}
	return conn, nil
}

// fileConn converts a file to a connection, and closes the file.
func fileConn(file *os.File) (*net.UnixConn, error) {
	defer file.Close() // the connection has a duplicate
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(errors.New("not a unix socket"), conn.Close())
	}
	return unixConn, nil
}

// runAsUser starts the daemon as a user, and is its keeper until it exits.
func runAsUser(ctx context.Context, target *targetUser, o machine.Options, log *logrus.Logger) error {
	if !target.isolated { // otherwise the directories are those of root
		if err := daemon.CheckNotRunning(ctx); err != nil {
			return err
		}
	}
	o.Owner = target.Uid
	signals := daemon.Notify(log) // before the start: the daemon inherits which signals are ignored
	defer signals.Stop()

	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	defer theirs.Close()
	opening, opened := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	defer opened()
	command, err := target.command(os.Args[1:])
	if err == nil {
		err = useRootEnv()
	}
	if err != nil {
		return errors.Join(err, ours.Close())
	}
	k, err := newKeeper(opening, o, log)
	if err != nil {
		return errors.Join(err, ours.Close())
	}
	command.ExtraFiles = []*os.File{theirs}
	command.Env = append(command.Env, keeperEnv+"=3")
	if err := command.Start(); err != nil {
		return errors.Join(fmt.Errorf("run as %s: %w", target.Username, err), ours.Close(), k.close())
	}
	_ = theirs.Close() // so that the daemon's exit is noticed
	stop := signals.ForwardTo(command.Process, nil)
	keeperErr := k.serve(ctx, ours)
	daemonErr := exitError(command.Wait())
	if stop() && daemonErr != nil && !failure.IsReported(daemonErr) && keeperErr == nil {
		log.Info("cleaned up") // the signal killed the daemon before it handled signals
		return nil
	}
	if keeperErr != nil && failure.IsReported(daemonErr) {
		log.Error(failure.Line(keeperErr)) // an exit status has no message
	}
	return errors.Join(keeperErr, daemonErr)
}

// exitError returns the error of a process that runs a daemon, from that of its
// Wait. The daemon has reported its own errors.
func exitError(err error) error {
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrWaitDelay): // only the daemon's children are still running
		return nil
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return failure.ExitStatus(exit.ExitCode())
	case err != nil:
		return fmt.Errorf("the daemon was killed (%w); cleaned up", err)
	}
	return nil
}

// socketPair returns the two ends of a connection, the second one as a file for
// another process.
func socketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	unix.CloseOnExec(fds[0])
	unix.CloseOnExec(fds[1])
	theirs = os.NewFile(uintptr(fds[1]), "keeper")
	ours, err = fileConn(os.NewFile(uintptr(fds[0]), "daemon"))
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return ours, theirs, nil
}
