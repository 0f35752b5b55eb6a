package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kubeshore/kubeshore/internal/daemon"
	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/printable"
	"github.com/kubeshore/kubeshore/pkg/control"
)

func newAdd(streams Streams) *cobra.Command {
	cmd := newNamespaces(streams, "add", "Forward more namespaces", (*control.Client).AddNamespaces)
	_ = cmd.RegisterFlagCompletionFunc("context", completeForwardedContexts)
	completeFlags(cmd) // the others; the context's is registered
	return cmd
}

func newRemove(streams Streams) *cobra.Command {
	cmd := newNamespaces(streams, "remove", "Stop forwarding namespaces", (*control.Client).RemoveNamespaces)
	_ = cmd.RegisterFlagCompletionFunc("namespace", completeForwarded)
	_ = cmd.RegisterFlagCompletionFunc("context", completeForwardedContexts)
	return cmd
}

type changeFunc func(*control.Client, context.Context, control.NamespaceChange) (control.Status, error)

// newNamespaces returns a command that changes which namespaces are forwarded.
func newNamespaces(streams Streams, use, short string, change changeFunc) *cobra.Command {
	var c control.NamespaceChange
	cmd := &cobra.Command{
		Use:     use,
		Short:   short,
		Example: fmt.Sprintf("  kubeshore %-26s # in the first context\n  kubeshore %s", use+" -n data", use+" -n shop,data -x staging"),
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(c.Namespaces) == 0 {
				return failure.Usage(errors.New("--namespace is required"))
			}
			client, err := newClient()
			if err != nil {
				return err
			}
			status, err := change(client, cmd.Context(), c)
			if err != nil {
				return clientError(err)
			}
			_, err = fmt.Fprintf(streams.Out, "forwarding %s\n", printable.Text(daemon.DescribeContexts(status.Contexts)))
			return err
		},
	}
	cmd.Flags().VarP((*commaList)(&c.Namespaces), "namespace", "n", "namespaces, separated by commas")
	cmd.Flags().StringVarP(&c.Context, "context", "x", "", "context of the namespaces (default: the first context)")
	return cmd
}
