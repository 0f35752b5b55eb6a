package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/kubeshore/kubeshore/internal/config"
	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/printable"
	"github.com/kubeshore/kubeshore/internal/project"
	"github.com/kubeshore/kubeshore/internal/userdirs"
)

// newAllow returns the command that confirms a project file.
func newAllow(streams Streams) *cobra.Command {
	return &cobra.Command{
		Use:   "allow [FILE]",
		Short: "Allow a project file to choose contexts and names",
		Long: `Allow a project file, as it is now, to forward from contexts other than the current
one and to add names outside the cluster's domain. FILE is by default
kubeshore.yaml in this directory or above. A changed file has to be allowed again.`,
		Example: `  kubeshore allow
  kubeshore allow ~/src/shop/kubeshore.yaml`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(given) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if userdirs.UserID() != "0" && os.Geteuid() == 0 { // root reads no file of a user's
				return failure.WithHint(errors.New("a project file is allowed by its user"), "run kubeshore allow without sudo")
			}
			path := ""
			if len(args) > 0 {
				path = args[0]
			}
			allowed, err := allowedFile()
			if err != nil {
				return err
			}
			path, decisions, err := config.Allow(path, allowed)
			if err != nil {
				return err
			}
			fmt.Fprintf(streams.Out, "allowed %s\n", printable.Text(path))
			for _, decision := range decisions {
				fmt.Fprintf(streams.Out, "  - %s\n", printable.Text(decision))
			}
			return nil
		},
	}
}

// allowedFile returns the file with the project files that the user has allowed.
func allowedFile() (project.Allowed, error) {
	path, err := userdirs.AllowedPath()
	return project.Allowed(path), err
}
