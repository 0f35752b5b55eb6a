//go:build !windows

package roothalf

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"strconv"
	"syscall"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/machine"
	"github.com/kubeshore/kubeshore/internal/stopsignal"
)

// KeeperEnv is the variable with the descriptor of the connection to the keeper that
// started a process as its daemon.
const KeeperEnv = "KUBESHORE_KEEPER"

// Run is a run that root starts for a user.
type Run struct {
	Machine   machine.Options
	Target    *TargetUser
	Detach    bool   // the keeper is a process of its own, which outlives this one
	Program   string // the daemon's
	Args      []string
	JSON      bool // format of the log
	Verbosity int  // of the log
}

// Exec replaces this process by the program at path, which starts the run. It returns
// only if that fails.
func (r Run) Exec(path string) error {
	more := []string{"--program", r.Program, "--verbosity", strconv.Itoa(r.Verbosity)}
	for flag, set := range map[string]bool{"--isolated": r.Target.Isolated, "--detach": r.Detach, "--json": r.JSON} {
		if set {
			more = append(more, flag)
		}
	}
	args := append(arguments(RunAsUserCommand, r.Machine, more...), "--")
	err := syscall.Exec(path, append(append([]string{path}, args...), r.Args...), os.Environ())
	return fmt.Errorf("run %s: %w", path, err)
}

// runAsUser runs the command [RunAsUserCommand].
func (o *commandOptions) runAsUser(ctx context.Context, args []string) error {
	if os.Geteuid() != 0 || o.program == "" {
		return errInternalCommand
	}
	target, err := newTargetUser(user.LookupId(o.machine.Owner))
	if err != nil {
		return err
	}
	target.Isolated = o.isolated
	return Run{Machine: o.machine, Target: target, Detach: o.detach, Program: o.program, Args: args}.Start(ctx, o.newLog())
}

// Start starts the daemon as the user, and is its keeper until it exits or, with
// Detach, waits until it runs in the background.
func (r Run) Start(ctx context.Context, log *logrus.Logger) error {
	stopping := stopsignal.Notify(log) // before the start: the daemon inherits which signals are ignored
	defer stopping.Stop()
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	defer theirs.Close()
	command := r.Target.command(r.Program, r.Args)
	command.ExtraFiles = []*os.File{theirs}
	command.Env = append(command.Env, KeeperEnv+"=3")
	if err := useRootEnv(); err != nil {
		return errors.Join(err, ours.Close())
	}
	if r.Detach {
		return r.startDetached(command, ours, stopping, log)
	}
	return r.keep(ctx, command, ours, stopping, log)
}

// keep starts a daemon, and is its keeper.
func (r Run) keep(ctx context.Context, command *exec.Cmd, ours *net.UnixConn, stopping stopsignal.Signals, log *logrus.Logger) error {
	opening, opened := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	defer opened()
	k, err := newKeeper(opening, r.Machine, log)
	if err != nil {
		return errors.Join(err, ours.Close())
	}
	if err := r.start(command); err != nil {
		return errors.Join(err, ours.Close(), k.close())
	}
	k.dropPrivileges(log, signalCapability)
	stop := stopping.ForwardTo(command.Process, nil)
	keeperErr := k.serve(ctx, ours)
	daemonErr := ExitError(command.Wait())
	if stop() && daemonErr != nil && !failure.IsReported(daemonErr) && keeperErr == nil {
		log.Info("cleaned up") // the signal killed the daemon before it handled signals
		return nil
	}
	if keeperErr != nil && failure.IsReported(daemonErr) {
		log.Error(failure.Line(keeperErr)) // an exit status has no message
	}
	return errors.Join(keeperErr, daemonErr)
}

// startDetached starts a keeper in a session of its own, and a process that starts
// the daemon in the background.
func (r Run) startDetached(command *exec.Cmd, ours *net.UnixConn, stopping stopsignal.Signals, log logrus.FieldLogger) error {
	file, err := ours.File()
	_ = ours.Close() // each end belongs to one process, so that its exit is noticed
	if err != nil {
		return err
	}
	err = startKeeper(file, r.Machine)
	_ = file.Close()
	if err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	if err := r.start(command); err != nil {
		return err
	}
	if err := errors.Join(dropPrivileges(signalCapability), filterSystemCalls()); err != nil {
		log.Warnf("running with more privileges than needed: %s", failure.Line(err))
	}
	stop := stopping.ForwardTo(command.Process, nil)
	err = ExitError(command.Wait())
	if stop() && err != nil && !failure.IsReported(err) {
		return failure.Failed // killed by the user's signal
	}
	return err
}

// start starts a command as the user, which alone has its end of the connection
// afterwards, so that its exit is noticed.
func (r Run) start(command *exec.Cmd) error {
	if err := command.Start(); err != nil {
		return fmt.Errorf("run as %s: %w", r.Target.Username, err)
	}
	_ = command.ExtraFiles[0].Close()
	return nil
}

// ExitError returns the error of a process that runs a daemon, from that of its
// Wait. The daemon has reported its own errors.
func ExitError(err error) error {
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
	ours, err = FileConn(os.NewFile(uintptr(fds[0]), "daemon"))
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return ours, theirs, nil
}

// FileConn converts a file to a connection, and closes the file.
func FileConn(file *os.File) (*net.UnixConn, error) {
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
