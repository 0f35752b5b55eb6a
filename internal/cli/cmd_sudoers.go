package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kubeshore/kubeshore/internal/launch"
	"github.com/kubeshore/kubeshore/pkg/hosts"
)

// newSudoers returns the command that prints a rule for sudo.
func newSudoers(streams Streams) *cobra.Command {
	var publicNames commaList
	cmd := &cobra.Command{
		Use:   "sudoers",
		Short: "Print a sudoers rule for kubeshore up without a password",
		Long: `Print a line for sudo's configuration with which kubeshore up needs no password
for you. The line allows nothing but to start kubeshore's own process for ports and
for names in the hosts file. It needs sudo 1.9.10, and a kubeshore that only root
can replace, as installed by make install. Check it with sudo visudo -c.`,
		Example: `  kubeshore sudoers | sudo install -m 440 /dev/stdin /etc/sudoers.d/zz-kubeshore
  kubeshore sudoers --public-names '*.shop'  # also for kubeshore up -n shop`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			line, err := launch.SudoersLine(hosts.DefaultPath(), publicNames)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(streams.Out, line)
			return err
		},
	}
	cmd.Flags().Var(&publicNames, "public-names", "patterns of public names that kubeshore up may use, e.g. '*.shop' for -n shop")
	return cmd
}
