//go:build !windows

package launch

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/internal/daemon"
	"github.com/kubeshore/kubeshore/internal/machine"
	"github.com/kubeshore/kubeshore/internal/roothalf"
	"github.com/kubeshore/kubeshore/internal/term"
)

// Foreground runs a daemon with the rights of the process or, if these aren't
// enough, with those that sudo gives to a keeper. Under sudo it becomes the
// keeper of a daemon that it starts as the user.
func Foreground(ctx context.Context, o Options, d daemon.Options, log *logrus.Logger) error {
	conn, err := inheritedKeeper()
	if err != nil {
		return err
	}
	if conn != nil {
		return daemon.Run(ctx, d, log, func(ctx context.Context, with machine.Options) (machine.Machine, error) {
			return machine.OpenByKeeper(ctx, conn, with)
		})
	}
	target, err := roothalf.FindTargetUser(o.User)
	switch {
	case err != nil:
		return err
	case o.Rootless && target != nil:
		return errRootlessUnderSudo
	case o.Rootless:
		return daemon.Run(ctx, d, log, func(ctx context.Context, with machine.Options) (machine.Machine, error) {
			return machine.OpenRootless(ctx, with, log)
		})
	case os.Geteuid() != 0:
		return daemon.Run(ctx, d, log, func(ctx context.Context, with machine.Options) (machine.Machine, error) {
			conn, err := startKeeperViaSudo(ctx, with, log)
			if err != nil {
				return machine.Machine{}, err
			}
			return machine.OpenByKeeper(ctx, conn, with)
		})
	case target != nil:
		return runAsUser(ctx, target, o, d, false, log)
	}
	return daemon.Run(ctx, d, log, func(ctx context.Context, with machine.Options) (machine.Machine, error) {
		m, guard, err := roothalf.OpenGuarded(ctx, with, log)
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
	descriptor := os.Getenv(roothalf.KeeperEnv)
	if descriptor == "" || os.Geteuid() == 0 {
		return nil, nil //nolint:nilnil // no keeper is not an error
	}
	fd, err := strconv.ParseUint(descriptor, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("invalid %s %q: must be a file descriptor", roothalf.KeeperEnv, descriptor)
	}
	if err := os.Unsetenv(roothalf.KeeperEnv); err != nil {
		return nil, err
	}
	if err := keepConnection(); err != nil {
		return nil, fmt.Errorf("protect the keeper's connection: %w", err)
	}
	conn, err := roothalf.FileConn(os.NewFile(uintptr(fd), "keeper"))
	if err != nil {
		return nil, fmt.Errorf("invalid %s %q: %w", roothalf.KeeperEnv, descriptor, err)
	}
	return conn, nil
}

// runAsUser starts the daemon as a user, and is its keeper until it exits. If
// possible, this process becomes root's half.
func runAsUser(ctx context.Context, target *roothalf.TargetUser, o Options, d daemon.Options, detach bool, log *logrus.Logger) error {
	if !target.Isolated { // otherwise the directories are those of root
		if err := daemon.CheckNotRunning(ctx); err != nil {
			return err
		}
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	d.Machine.Owner = target.Uid
	run := roothalf.Run{
		Machine: d.Machine, Target: target, Detach: detach, Program: program, Args: os.Args[1:],
		JSON: d.Format == term.JSON, Verbosity: o.Verbosity,
	}
	if half := rootHalf(log); half != program {
		return run.Exec(half)
	}
	return run.Start(ctx, log)
}
