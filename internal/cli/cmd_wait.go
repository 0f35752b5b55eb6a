package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kubeshore/kubeshore/internal/daemon"
	"github.com/kubeshore/kubeshore/internal/failure"
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
degraded: they accept connections and have a ready pod. Useful in scripts and CI.`,
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
			return waitFor(cmd.Context(), client, names, timeout)
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

// waitFor waits until services are ready, by following the events.
func waitFor(ctx context.Context, client *control.Client, names []string, timeout time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var status control.Status
	err := client.Events(limited, func(e control.Event) error {
		status.Apply(e)
		if e.More {
			return nil
		}
		r := control.ReadinessOf(status, names)
		if r.Ready {
			return errDone
		}
		for _, s := range r.Waiting {
			if s.State == control.Skipped {
				return fmt.Errorf("%s is skipped and never becomes ready: %s", s.Name, s.Reason)
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, errDone):
		return nil
	case limited.Err() != nil && ctx.Err() == nil && status.PID == 0:
		return fmt.Errorf("not ready after %v: kubeshore is running but not responding", timeout)
	case limited.Err() != nil && ctx.Err() == nil:
		return fmt.Errorf("not ready after %v: %s", timeout, daemon.DescribeReadiness(control.ReadinessOf(status, names)))
	case err == nil:
		return errStopped
	}
	return clientError(err)
}
