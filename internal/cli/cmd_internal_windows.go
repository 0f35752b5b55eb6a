package cli

import "github.com/spf13/cobra"

// rootCommands returns no commands: on Windows there is one process.
func rootCommands(Streams) []*cobra.Command { return nil }
