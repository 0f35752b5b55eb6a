package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/printable"
	"github.com/kubeshore/kubeshore/internal/userdirs"
	"github.com/kubeshore/kubeshore/pkg/control"
)

func newLogs(streams Streams) *cobra.Command {
	var follow bool
	var tail int
	cmd := &cobra.Command{
		Use:   "logs",
		Short: "Show kubeshore's log",
		Example: `  kubeshore logs                       # the last megabyte
  kubeshore logs -f --tail 20          # the last 20 lines, then new ones`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := newClient()
			if err != nil {
				return err
			}
			err = client.Log(cmd.Context(), &printable.Writer{Out: streams.Out}, tail, follow)
			if errors.Is(err, control.ErrNotRunning) {
				if path, ok := userdirs.ExistingLog(); ok {
					return failure.WithHint(err, "the log of the last run in the background is "+path)
				}
			}
			return clientError(err)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "follow the log")
	cmd.Flags().IntVar(&tail, "tail", -1, "number of lines to show from the end of the log (default: all, up to 1 MB)")
	cmd.Flags().Lookup("tail").DefValue = "0" // which the help doesn't show
	return cmd
}
