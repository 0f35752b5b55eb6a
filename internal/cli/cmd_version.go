package cli

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/version"
)

func newVersion(streams Streams) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Example: `  kubeshore version
  kubeshore version -o json`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			switch format {
			case "":
			case "json":
				return json.NewEncoder(streams.Out).Encode(map[string]string{
					"version": version.String(), "goVersion": runtime.Version(), "platform": version.Platform(),
				})
			default:
				return failure.Usage(fmt.Errorf("invalid --output %q: must be json", format))
			}
			_, err := fmt.Fprintln(streams.Out, version.Line())
			return err
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "", "output format: json")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}
