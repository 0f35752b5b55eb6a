//go:build !windows

package cli

import (
	"github.com/spf13/cobra"

	"github.com/kubeshore/kubeshore/internal/roothalf"
)

// internalCommands returns the hidden commands that kubeshore itself starts. They are
// those of cmd/kubeshore-root, for an installation without that program.
func internalCommands() []*cobra.Command {
	names := roothalf.Commands()
	commands := make([]*cobra.Command, 0, len(names))
	for _, name := range names {
		commands = append(commands, &cobra.Command{
			Use: name, Hidden: true, DisableFlagParsing: true,
			RunE: func(cmd *cobra.Command, args []string) error {
				return roothalf.Main(cmd.Context(), append([]string{name}, args...))
			},
		})
	}
	return commands
}
