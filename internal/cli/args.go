package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kubeshore/kubeshore/internal/failure"
)

// Streams are the outputs of the program.
type Streams struct {
	Out io.Writer // results
	Err io.Writer // log and errors
}

// flagError returns errors of flag values in the form of all other errors.
func flagError(_ *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		return fmt.Errorf("invalid --%s %q: %w", invalid.GetFlag().Name, invalid.GetValue(), invalid.Unwrap())
	}
	return err
}

// knownCommand returns an error for arguments that name no command.
func knownCommand(cmd *cobra.Command, args []string) error {
	if _, unknown, _ := cmd.Root().Find(args); len(unknown) > 0 {
		return unknownCommand(cmd.Root(), unknown[0])
	}
	return nil
}

// unknownCommand returns the error for an unknown command, with similar commands
// as a hint.
func unknownCommand(root *cobra.Command, name string) error {
	err := fmt.Errorf("unknown command %q", name)
	root.SuggestionsMinimumDistance = 2
	if similar := root.SuggestionsFor(name); len(similar) > 0 {
		similar = slices.Compact(similar) // a command may be similar and have that name elsewhere
		return failure.WithHint(err, "did you mean kubeshore "+strings.Join(similar, " or kubeshore ")+"?")
	}
	return err
}

// noArguments returns an error for arguments. On the root command they are unknown
// commands.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasSubCommands() {
		return unknownCommand(cmd, args[0])
	}
	err := fmt.Errorf("unexpected argument %q", args[0])
	if cmd.Flags().Lookup("namespace") != nil {
		return failure.WithHint(err, fmt.Sprintf("did you mean %s -n %s?", cmd.CommandPath(), args[0]))
	}
	return err
}
