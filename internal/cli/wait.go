package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kubeshore/kubeshore/pkg/control"
)

// newClient returns a client of the user's running kubeshore.
func newClient() (*control.Client, error) {
	folders, err := controlFolders()
	if err != nil {
		return nil, err
	}
	return control.NewClient(folders...), nil
}

// explainClient says what to do about an error of the client.
func explainClient(err error) error {
	if errors.Is(err, control.ErrNotRunning) {
		return fmt.Errorf("%w: start it with kubeshore up", err)
	}
	return err
}

func newWait() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "wait [SERVICE...]",
		Short: "Wait until services can answer",
		Long: `Wait until the services can answer, or all of them if none is named: their names
lead here, and a pod is ready. For scripts and CI.`,
		Example: `  kubeshore wait                       # for all
  kubeshore wait go-ok db.data         # for these
  kubeshore wait --timeout 2m && echo "all services can answer"`,
		ValidArgsFunction: completeServices,
		RunE: func(cmd *cobra.Command, names []string) error {
			if timeout <= 0 {
				return usage(fmt.Errorf("--timeout %v: it must be more than nothing", timeout))
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
	// errDone ends a stream of events.
	errDone = errors.New("done")
	// errEnded is the end of the stream of somebody who wanted to hear more.
	errEnded = errors.New("kubeshore has ended")
)

// waitFor waits until services can answer, by what it hears.
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
				return fmt.Errorf("%s can't be waited for: %s", s.Name, s.Reason)
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, errDone):
		return nil
	case limited.Err() != nil && ctx.Err() == nil && status.PID == 0:
		return fmt.Errorf("not ready after %v: kubeshore runs, and didn't answer by then", timeout)
	case limited.Err() != nil && ctx.Err() == nil:
		return fmt.Errorf("not ready after %v: %s", timeout, describeReadiness(control.ReadinessOf(status, names)))
	case err == nil:
		return errEnded
	}
	return explainClient(err)
}

// maxNamed is how many services are named in a line.
const maxNamed = 5

// describeReadiness says what isn't ready, and why.
func describeReadiness(r control.Readiness) string {
	var parts []string
	for _, name := range r.Unknown {
		parts = append(parts, "no service is called "+name)
	}
	for _, s := range r.Waiting[:min(len(r.Waiting), maxNamed)] {
		parts = append(parts, s.Name+": "+s.Reason)
	}
	if n := len(r.Waiting) - maxNamed; n > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", n))
	}
	parts = append(parts, r.Problems...)
	if len(parts) == 0 {
		return "it is just starting"
	}
	return strings.Join(parts, "; ")
}
