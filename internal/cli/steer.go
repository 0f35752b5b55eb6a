package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/shirou/gopsutil/v4/process"
	"github.com/spf13/cobra"

	"github.com/kubeshore/kubeshore/pkg/control"
)

func newDown(streams Streams) *cobra.Command {
	timeout := 30 * time.Second
	cmd := &cobra.Command{
		Use:     "down",
		Short:   "Stop the kubeshore that runs, and take everything back",
		Example: "  kubeshore down",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := newClient()
			if err != nil {
				return err
			}
			status, err := down(cmd.Context(), client, timeout)
			if err != nil {
				return explainClient(err)
			}
			_, err = fmt.Fprintf(streams.Out, "kubeshore (process %d) has ended; everything is taken back\n", status.PID)
			return err
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "how long it may take")
	return cmd
}

// down stops a kubeshore, and returns when it has taken everything back.
func down(ctx context.Context, client *control.Client, timeout time.Duration) (status control.Status, err error) {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err = client.Events(limited, func(e control.Event) error { // which end as it does
		if e.Status == nil {
			return nil
		}
		status, err = client.Stop(limited)
		return err
	})
	for err == nil && limited.Err() == nil { // its last steps can't be followed
		if hasEnded(limited, status.PID) {
			return status, nil
		}
		<-time.After(5 * time.Millisecond)
	}
	if err == nil {
		err = fmt.Errorf("kubeshore (process %d) doesn't end within %v; its log says why: kubeshore logs", status.PID, timeout)
	}
	return status, err
}

// hasEnded tells whether a process has, as far as is known: one that nobody has waited
// for has ended too.
func hasEnded(ctx context.Context, pid int) bool {
	alive, err := process.PidExistsWithContext(ctx, int32(pid))
	if err != nil || !alive {
		return true
	}
	is, err := (&process.Process{Pid: int32(pid)}).StatusWithContext(ctx)
	return err == nil && slices.Contains(is, process.Zombie)
}

func newLogs(streams Streams) *cobra.Command {
	var follow bool
	var tail int
	cmd := &cobra.Command{
		Use:   "logs",
		Short: "Show the log of the kubeshore that runs",
		Example: `  kubeshore logs                       # what of it is in memory: the last megabyte
  kubeshore logs -f --tail 20          # the last lines, and what comes`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := newClient()
			if err != nil {
				return err
			}
			err = client.Log(cmd.Context(), streams.Out, tail, follow)
			if errors.Is(err, control.ErrNotRunning) {
				if path, ok := lastLog(); ok {
					return fmt.Errorf("%w; the log of the last one in the background is %s", err, path)
				}
			}
			return explainClient(err)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what comes")
	cmd.Flags().IntVar(&tail, "tail", -1, "how many of the last lines (default: all of the last megabyte)")
	cmd.Flags().Lookup("tail").DefValue = "0" // which the help doesn't say
	return cmd
}

func newRemove(streams Streams) *cobra.Command {
	cmd := newNamespaces(streams, "remove", "Forward namespaces no more", (*control.Client).RemoveNamespaces)
	_ = cmd.RegisterFlagCompletionFunc("namespace", completeForwarded)
	return cmd
}

// newNamespaces returns the command that adds namespaces, or removes them.
func newNamespaces(streams Streams, use, short string, change func(*control.Client, context.Context, control.NamespaceChange) (control.Status, error)) *cobra.Command {
	var c control.NamespaceChange
	cmd := &cobra.Command{
		Use:     use,
		Short:   short,
		Example: fmt.Sprintf("  kubeshore %-26s # of the first context\n  kubeshore %s", use+" -n data", use+" -n shop,data -x staging"),
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(c.Namespaces) == 0 {
				return usage(errors.New("--namespace is needed"))
			}
			client, err := newClient()
			if err != nil {
				return err
			}
			status, err := change(client, cmd.Context(), c)
			if err != nil {
				return explainClient(err)
			}
			_, err = fmt.Fprintf(streams.Out, "forwarding %s\n", describeContexts(status.Contexts))
			return err
		},
	}
	cmd.Flags().VarP((*list)(&c.Namespaces), "namespace", "n", "namespaces, separated by commas")
	cmd.Flags().StringVarP(&c.Context, "context", "x", "", "their context, if it isn't the first one that is forwarded")
	_ = cmd.RegisterFlagCompletionFunc("context", completeForwardedContexts)
	if use == "add" {
		completeFlags(cmd)
	}
	return cmd
}
