//go:build !windows

package cli

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
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/kubeshore/kubeshore/pkg/hosts"
	"github.com/kubeshore/kubeshore/pkg/keeper"
)

// keeperEnv tells a daemon which of its descriptors is the way to the keeper that
// has started it.
const keeperEnv = "KUBESHORE_KEEPER"

var errRootless = usage(errors.New("--rootless does without root: run it without sudo"))

// start forwards, with the rights that the process was started with or, failing
// that, gets by sudo.
func start(ctx context.Context, f upFlags, log *logrus.Logger) error {
	conn, err := inherited()
	if err != nil {
		return err
	}
	if conn != nil {
		return up(ctx, f, log, func(ctx context.Context) (machine, error) { return kept(ctx, conn, f.privileges()) })
	}
	p := f.privileges()
	caller, err := f.caller()
	switch {
	case err != nil:
		return err
	case f.rootless && caller != nil:
		return errRootless
	case f.rootless:
		return up(ctx, f, log, func(ctx context.Context) (machine, error) { return openRootless(ctx, p, log) })
	case os.Geteuid() != 0:
		return up(ctx, f, log, func(ctx context.Context) (machine, error) {
			conn, err := summon(ctx, p)
			if err != nil {
				return machine{}, err
			}
			return kept(ctx, conn, p)
		})
	case caller != nil:
		if !caller.apart { // else the folders are of who called sudo
			if err := alreadyAnywhere(ctx); err != nil {
				return err
			}
		}
		p.owner = caller.Uid
		return keepFor(ctx, caller, p, log)
	}
	return up(ctx, f, log, func(ctx context.Context) (machine, error) {
		m, guard, err := openGuarded(ctx, p, log)
		if err != nil {
			return machine{}, err
		}
		m.lacks = "all of kubeshore runs as root, credential plugins too; --user NAME has it run as that user"
		return guarded(m, guard), nil
	})
}

// inherited returns the connection to the keeper that has started this process, which
// what this process starts has nothing of; nil if none has. A process of root's is no
// keeper's daemon: what its environment says is then what somebody has made sudo pass on.
func inherited() (*net.UnixConn, error) {
	descriptor := os.Getenv(keeperEnv)
	if descriptor == "" || os.Geteuid() == 0 {
		return nil, nil //nolint:nilnil // there is none
	}
	fd, err := strconv.ParseUint(descriptor, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("%s=%s: not a descriptor", keeperEnv, descriptor)
	}
	if err := os.Unsetenv(keeperEnv); err != nil {
		return nil, err
	}
	conn, err := unixConn(os.NewFile(uintptr(fd), "keeper"))
	if err != nil {
		return nil, fmt.Errorf("%s=%s: %w", keeperEnv, descriptor, err)
	}
	return conn, nil
}

// unixConn returns a file, which it closes, as the connection that it is.
func unixConn(file *os.File) (*net.UnixConn, error) {
	defer file.Close() // the connection has its own
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

// kept returns what the keeper at the other end of conn does.
func kept(ctx context.Context, conn *net.UnixConn, p privileges) (machine, error) {
	client, err := keeper.NewClient(ctx, conn, version())
	if err != nil {
		return machine{}, err
	}
	return machine{
		ports: client, names: client.Names(), aliases: client.Aliases(),
		run: func(ctx context.Context) error {
			err := client.Run(ctx)
			if errors.Is(err, keeper.ErrGone) && areNamesLeft(p) {
				err = fmt.Errorf("%w; its names are left in %s, as its guard has ended too: sudo kubeshore clean takes them away", err, p.hostsFile)
			}
			return err
		},
		close: func() error {
			if err := conn.Close(); !errors.Is(err, net.ErrClosed) { // run closes it too
				return err
			}
			return nil
		},
	}, nil
}

// areNamesLeft tells whether the names of a keeper that has ended stay: its guard has a
// moment to take them away.
func areNamesLeft(p privileges) bool {
	for begin := time.Now(); ; <-time.After(20 * time.Millisecond) {
		left, err := hosts.HasBlock(p.hostsFile, p.owner)
		if err != nil || !left || time.Since(begin) > leftTime {
			return left
		}
	}
}

// leftTime is how long a guard may take for that.
const leftTime = 2 * time.Second

// guarded returns a machine that ends if its guard does, and ends that.
func guarded(m machine, guard *keeper.Guard) machine {
	run, own := m.run, m
	m.run = func(ctx context.Context) error { return runGuarded(ctx, run, guard.Died()) }
	m.close = func() error { return closeGuarded(own, guard) }
	return m
}

// closeGuarded lets go of a machine that has been put back, and of its guard, which tries
// again if something is left. It looks by putting it back once more: then all of it is done.
func closeGuarded(m machine, guard *keeper.Guard) error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanTime)
	defer cancel()
	_, names := m.names.Set(ctx, nil)
	restored := names == nil && m.aliases.Set(ctx, nil) == nil
	return errors.Join(m.close(), guard.End(restored))
}

// runGuarded calls run until ctx ends or the guard has died. That run has nothing
// more to do is no reason to look at the guard no longer.
func runGuarded(ctx context.Context, run func(context.Context) error, died <-chan struct{}) error {
	watching, ctx := errgroup.WithContext(ctx)
	watching.Go(func() error { return run(ctx) })
	watching.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-died:
			return errGuardDied
		}
	})
	return watching.Wait()
}

var errGuardDied = errors.New("the guard, which would put the machine back if kubeshore were killed, has ended; kubeshore can't go on without it")

// keepFor is the keeper of a daemon that it starts as the user, and ends as that
// does.
func keepFor(ctx context.Context, caller *caller, p privileges, log *logrus.Logger) error {
	signals := notify(log) // the daemon inherits which are ignored
	defer signals.stop()

	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	defer theirs.Close()
	opening, opened := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	defer opened()
	daemon, err := caller.command(os.Args[1:])
	if err == nil {
		err = asKeeper()
	}
	if err != nil {
		return errors.Join(err, ours.Close())
	}
	k, err := newKeeper(opening, p, log)
	if err != nil {
		return errors.Join(err, ours.Close())
	}
	daemon.ExtraFiles = []*os.File{theirs}
	daemon.Env = append(daemon.Env, keeperEnv+"=3")
	if err := daemon.Start(); err != nil {
		return errors.Join(fmt.Errorf("can't run as %s: %w", caller.Username, err), ours.Close(), k.close())
	}
	_ = theirs.Close() // else the daemon's end would not be seen
	passed := signals.passTo(daemon.Process, nil)
	kept := k.serve(ctx, ours)
	ended := outcome(daemon.Wait())
	if passed() && ended != nil && !errors.As(ended, new(exitStatus)) && kept == nil {
		log.Info("everything is taken back") // the daemon was told to end before it could listen
		return nil
	}
	if kept != nil && errors.As(ended, new(exitStatus)) {
		log.Error(kept) // nothing is said beside an exit status
	}
	return errors.Join(kept, ended)
}

// outcome returns what the daemon's end means for the process that has started
// it. What it had to say it has said.
func outcome(err error) error {
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrWaitDelay): // it has ended, and what it started has not
		return nil
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exitStatus(exit.ExitCode())
	case err != nil:
		return fmt.Errorf("kubeshore was killed (%w); everything is taken back", err)
	}
	return nil
}

// socketPair returns the two ends of a connection, the second one for another
// process.
func socketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	unix.CloseOnExec(fds[0])
	unix.CloseOnExec(fds[1])
	theirs = os.NewFile(uintptr(fds[1]), "keeper")
	ours, err = unixConn(os.NewFile(uintptr(fds[0]), "daemon"))
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return ours, theirs, nil
}
