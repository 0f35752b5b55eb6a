package cli

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
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
					"version": version(), "goVersion": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH,
				})
			default:
				return usage(fmt.Errorf("--output %s: it is json", format))
			}
			_, err := fmt.Fprintln(streams.Out, versionLine())
			return err
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "", "json")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// versionLine says which program this is.
func versionLine() string {
	return fmt.Sprintf("kubeshore %s %s %s/%s", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// version is the module's version, or the commit that it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(unknown)"
	}
	return info.Main.Version
}

// userAgent is what API servers are told of us.
func userAgent() string {
	return fmt.Sprintf("kubeshore/%s (%s/%s)", version(), runtime.GOOS, runtime.GOARCH)
}
