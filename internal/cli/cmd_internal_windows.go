package cli

import (
	"github.com/spf13/cobra"
	"github.com/txn2/txeh"

	"github.com/kubeshore/kubeshore/internal/machine"
)

// internalCommands returns the hidden commands that kubeshore itself starts. On
// Windows there is one process, which only flushes the DNS cache in another one.
func internalCommands() []*cobra.Command {
	return []*cobra.Command{{
		Use: machine.FlushCommand, Hidden: true, Args: noArguments,
		RunE: func(*cobra.Command, []string) error { return txeh.FlushDNSCache() },
	}}
}
