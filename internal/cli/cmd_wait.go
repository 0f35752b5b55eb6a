package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kubeshore/kubeshore/internal/backoff"
	"github.com/kubeshore/kubeshore/internal/daemon"
	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/printable"
	"github.com/kubeshore/kubeshore/internal/userdirs"
	"github.com/kubeshore/kubeshore/pkg/control"
)

// newClient returns a client of the user's running daemon.
func newClient() (*control.Client, error) {
	dirs, err := userdirs.SocketSearchDirs()
	if err != nil {
		return nil, err
	}
	return control.NewClient(dirs...), nil
}

// clientError adds a hint to an error of the client.
func clientError(err error) error {
	switch {
	case errors.Is(err, control.ErrNotRunning):
		return failure.WithHint(err, "start it with kubeshore up")
	case errors.Is(err, control.ErrNotResponding):
		return failure.WithHint(err, "if it was suspended with Ctrl-Z, resume it with fg")
	}
	return err
}

func newWait() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "wait [SERVICE...]",
		Short: "Wait until services are ready",
		Long: `Wait until the given services, or all services that can be forwarded, are ready or
degraded: they accept connections, connections to their pods can be opened, and their
short names resolve to them. The reasons of degraded services are printed. If the
cluster denies connections to all services that aren't ready, the command fails after
three seconds. Useful in scripts and CI.`,
		Example: `  kubeshore wait                       # for all services
  kubeshore wait go-ok db.data         # for these
  kubeshore wait --timeout 2m && echo "all services are ready"`,
		ValidArgsFunction: completeServices,
		RunE: func(cmd *cobra.Command, names []string) error {
			if timeout <= 0 {
				return failure.Usage(fmt.Errorf("invalid --timeout \"%v\": must be greater than zero", timeout))
			}
			client, err := newClient()
			if err != nil {
				return err
			}
			degraded, err := waitFor(cmd.Context(), client, names, timeout)
			for _, s := range degraded {
				cmd.PrintErrln(printable.Text(fmt.Sprintf("%s is degraded: %s", s.Name, s.Reason)))
			}
			return err
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait")
	return cmd
}

var (
	// errDone ends a stream of events that has done its work.
	errDone = errors.New("done")
	// errStopped is the error of a command whose daemon has stopped.
	errStopped = errors.New("stopped")
)

const (
	// checkInterval is the interval between two checks of services that seem ready.
	checkInterval = time.Second
	// denialGrace is how long the cluster must deny connections to the services for
	// wait to give up: a permission that was granted a moment ago may not be in effect.
	denialGrace = 3 * time.Second
)

// waitFor waits until services are ready: by following the events and then, because
// a failure may be unknown until somebody connects, by asking for a check. It gives
// up early if all services that aren't ready have failed for good. It returns the
// services that are only degraded.
func waitFor(ctx context.Context, client *control.Client, names []string, timeout time.Duration) (degraded []control.Service, err error) {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	w := waiter{client: client, names: names}
	err = w.run(limited)
	switch {
	case err == nil:
		return w.last.Degraded, nil
	case limited.Err() != nil && ctx.Err() == nil && !w.responded:
		return nil, fmt.Errorf("not ready after %v: kubeshore is running but not responding", timeout)
	case limited.Err() != nil && ctx.Err() == nil:
		return nil, fmt.Errorf("not ready after %v: %s", timeout, daemon.DescribeReadiness(w.last))
	}
	return nil, clientError(err)
}

// waiter waits for services.
type waiter struct {
	client    *control.Client
	names     []string
	responded bool
	last      control.Readiness
}

// run returns nil once the services are ready.
func (w *waiter) run(ctx context.Context) error {
	var hopelessSince time.Time
	for {
		if err := w.awaitEvent(ctx); err != nil {
			return err
		}
		r, err := w.client.Ready(ctx, w.names...)
		if err != nil {
			return err
		}
		w.last = r
		now := time.Now()
		switch {
		case r.Ready:
			return nil
		case !r.Hopeless():
			hopelessSince = time.Time{}
		case hopelessSince.IsZero():
			hopelessSince = now
		case now.Sub(hopelessSince) >= denialGrace:
			return fmt.Errorf("not ready: %s", daemon.DescribeReadiness(r))
		}
		if err := backoff.Sleep(ctx, checkInterval); err != nil {
			return err
		}
	}
}

// awaitEvent follows the events until the services seem ready, or failed for good.
func (w *waiter) awaitEvent(ctx context.Context) error {
	var status control.Status
	err := w.client.Events(ctx, func(e control.Event) error {
		status.Apply(e)
		if e.More {
			return nil
		}
		w.responded = true
		w.last = control.ReadinessOf(status, w.names)
		if w.last.Ready {
			return errDone
		}
		for _, s := range w.last.Waiting {
			if s.State == control.Skipped {
				return fmt.Errorf("%s is skipped and never becomes ready: %s", s.Name, s.Reason)
			}
		}
		if w.last.Hopeless() {
			return errDone
		}
		return nil
	})
	switch {
	case errors.Is(err, errDone):
		return nil
	case err == nil && ctx.Err() == nil:
		return errStopped
	case err == nil:
		return ctx.Err()
	}
	return err
}
