package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/shirou/gopsutil/v4/process"
	"github.com/spf13/cobra"

	"github.com/kubeshore/kubeshore/internal/backoff"
	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/pkg/control"
)

func newDown(streams Streams) *cobra.Command {
	timeout := 30 * time.Second
	cmd := &cobra.Command{
		Use:     "down",
		Short:   "Stop kubeshore and clean up",
		Example: "  kubeshore down",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := newClient()
			if err != nil {
				return err
			}
			status, err := down(cmd.Context(), client, timeout)
			if err != nil {
				return clientError(err)
			}
			_, err = fmt.Fprintf(streams.Out, "kubeshore (pid %d) stopped and cleaned up\n", status.PID)
			return err
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "how long to wait for kubeshore to stop")
	return cmd
}

// exitPollInterval is how often down checks whether the process has exited.
const exitPollInterval = 5 * time.Millisecond

// down stops a daemon, and returns when its process has exited.
func down(ctx context.Context, client *control.Client, timeout time.Duration) (status control.Status, err error) {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err = client.Events(limited, func(e control.Event) error { // the events end with the daemon
		if e.Status == nil {
			return nil
		}
		status, err = client.Stop(limited)
		return err
	})
	if err != nil && limited.Err() == nil {
		return status, err
	}
	for limited.Err() == nil {
		if hasExited(limited, status.PID) {
			return status, nil
		}
		_ = backoff.Sleep(limited, exitPollInterval)
	}
	if err == nil {
		err = failure.WithHint(fmt.Errorf("still running after %v (pid %d)", timeout, status.PID), "see kubeshore logs")
	}
	return status, err
}

// hasExited reports whether a process has exited, as far as is known. A zombie has.
func hasExited(ctx context.Context, pid int) bool {
	alive, err := process.PidExistsWithContext(ctx, int32(pid))
	if err != nil || !alive {
		return true
	}
	states, err := (&process.Process{Pid: int32(pid)}).StatusWithContext(ctx)
	return err == nil && slices.Contains(states, process.Zombie)
}
