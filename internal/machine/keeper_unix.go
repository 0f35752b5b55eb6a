//go:build !windows

package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/kubeshore/kubeshore/internal/backoff"
	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/version"
	"github.com/kubeshore/kubeshore/pkg/hosts"
	"github.com/kubeshore/kubeshore/pkg/keeper"
)

const (
	// restoreTimeout is how long restoring the machine may take at the end.
	restoreTimeout = 10 * time.Second
	// leftNamesTimeout is how long to wait for the guard of a dead keeper to
	// remove its names.
	leftNamesTimeout = 2 * time.Second
	// leftNamesInterval is how often that is checked.
	leftNamesInterval = 20 * time.Millisecond
)

// OpenByKeeper returns the machine of the keeper at the other end of conn. It takes
// ownership of conn.
func OpenByKeeper(ctx context.Context, conn *net.UnixConn, o Options) (Machine, error) {
	client, err := keeper.NewClient(ctx, conn, version.String())
	if err != nil {
		return Machine{}, err
	}
	policy := client.NamePolicy()
	return Machine{
		NamePolicy: &policy,
		Ports:      client, Names: client.Names(), Aliases: client.Aliases(),
		Run: func(ctx context.Context) error {
			err := client.Run(ctx)
			if errors.Is(err, keeper.ErrGone) && areNamesLeft(ctx, o) {
				err = failure.WithHint(fmt.Errorf("%w; its guard exited too, so its names are still in %s", err, o.HostsFile), "run sudo kubeshore clean")
			}
			return err
		},
		Close: func() error {
			if err := conn.Close(); !errors.Is(err, net.ErrClosed) { // Run closes it too
				return err
			}
			return nil
		},
	}, nil
}

// areNamesLeft reports whether the names of a dead keeper remain in the hosts
// file after its guard had time to remove them, even if ctx ends.
func areNamesLeft(ctx context.Context, o Options) bool {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), leftNamesTimeout)
	defer cancel()
	for {
		left, err := hosts.HasBlock(o.HostsFile, o.Owner)
		if err != nil || !left || backoff.Sleep(limited, leftNamesInterval) != nil {
			return left
		}
	}
}

// OpenGuarded opens the machine with the rights of this process. The guard starts
// first, because opening the machine already creates files. It flushes the DNS cache.
func OpenGuarded(ctx context.Context, o Options, guardCommand *exec.Cmd, log logrus.FieldLogger) (Machine, *keeper.Guard, error) {
	guardCommand.Stderr = os.Stderr
	guardCommand.Env = RootEnv()
	guard, err := keeper.StartGuard(guardCommand)
	if err != nil {
		return Machine{}, nil, err
	}
	m, err := openOwn(ctx, o, func(context.Context) { guard.Flush() }, log)
	if err != nil {
		return Machine{}, nil, errors.Join(err, guard.End(true))
	}
	return m, guard, nil
}

// ErrGuardDied is the error of a run whose guard has exited.
var ErrGuardDied = errors.New("the guard, which restores the machine if kubeshore is killed, has exited")

// WithGuard returns a machine that stops when its guard exits, and that ends the
// guard when it is closed.
func WithGuard(m Machine, guard *keeper.Guard) Machine {
	guarded := m
	guarded.Run = func(ctx context.Context) error { return runWithGuard(ctx, m.Run, guard.Died()) }
	guarded.Close = func() error { return CloseGuarded(m, guard) }
	return guarded
}

// CloseGuarded closes a machine that was restored, and ends its guard. It
// restores the machine again to find out whether that is complete; if it isn't,
// the guard tries once more.
func CloseGuarded(m Machine, guard *keeper.Guard) error {
	ctx, cancel := context.WithTimeout(context.Background(), restoreTimeout)
	defer cancel()
	_, err := m.Names.Set(ctx, nil)
	restored := err == nil && m.Aliases.Set(ctx, nil) == nil
	return errors.Join(m.Close(), guard.End(restored))
}

// runWithGuard calls run until ctx ends, or the guard dies. It watches the guard
// even when run has returned.
func runWithGuard(ctx context.Context, run func(context.Context) error, died <-chan struct{}) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return run(ctx) })
	group.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-died:
			return ErrGuardDied
		}
	})
	return group.Wait()
}
