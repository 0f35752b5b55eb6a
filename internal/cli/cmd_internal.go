package cli

import (
	"github.com/spf13/cobra"
	"github.com/txn2/txeh"

	"github.com/kubeshore/kubeshore/internal/machine"
)

// internalCommands returns the hidden commands that kubeshore itself starts.
func internalCommands(streams Streams) []*cobra.Command {
	flush := &cobra.Command{
		Use: machine.FlushCommand, Hidden: true, Args: noArguments,
		RunE: func(*cobra.Command, []string) error { return txeh.FlushDNSCache() },
	}
	return append(privilegedCommands(streams), flush)
}
