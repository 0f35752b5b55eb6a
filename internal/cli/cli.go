// Package cli is the command line of kubeshore: it reads flags, wires the other
// packages together, and says in one line what went wrong.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kubeshore/kubeshore/pkg/control"
)

// Exit statuses.
const (
	exitDone  = 0 // as asked
	exitFault = 1 // something went wrong; stderr has a line that says what
	exitUsage = 2 // the command line is wrong
)

// Streams are where the program writes to.
type Streams struct {
	Out io.Writer // answers
	Err io.Writer // log and faults
}

// usageError is a fault of the command line itself.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// usage marks an error as one of the command line.
func usage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

// exitStatus is the end of a process that has itself said what went wrong.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// Main runs the command line without the program's name and returns the exit
// status. When ctx ends, so does what runs, in good order.
func Main(ctx context.Context, args []string, streams Streams) int {
	root := newRoot(streams)
	root.SetArgs(args)
	started := false
	root.PersistentPreRun = func(*cobra.Command, []string) { started = true }
	command, err := root.ExecuteContextC(ctx)
	if !started { // cobra itself has refused the command line
		err = usage(err)
	}
	if err == nil {
		return exitDone
	}
	if status := exitStatus(0); errors.As(err, &status) {
		return int(status)
	}
	sayFault(streams.Err, err)
	if errors.As(err, new(usageError)) {
		fmt.Fprintf(streams.Err, "See '%s --help'.\n", command.CommandPath())
		return exitUsage
	}
	return exitFault
}

// sayFault says in one line what went wrong.
func sayFault(out io.Writer, err error) {
	fmt.Fprintf(out, "kubeshore: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
}

func newRoot(streams Streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "kubeshore",
		Short: "Your cluster's services on your own machine, by their own names",
		Long: `kubeshore forwards every service of the Kubernetes namespaces that you name to
this machine: each has an address of its own, its own ports, and its own name,
for as long as kubeshore runs. When it ends, the machine is as it was before.`,
		Example: `  kubeshore up -n default,kube-system  # forward these namespaces until Ctrl-C
  kubeshore up -d                      # the current context's namespace, in the background
  kubeshore ps                         # what is forwarded, and what can't answer
  kubeshore logs -f                    # what happens
  kubeshore down                       # take everything back`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.SetVersionTemplate(versionLine() + "\n")
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	root.AddGroup(&cobra.Group{ID: "forward", Title: "Forward:"}, &cobra.Group{ID: "run", Title: "While it runs:"}, &cobra.Group{ID: "more", Title: "More:"})
	for group, commands := range map[string][]*cobra.Command{
		"forward": {newUp(streams), newSvc(streams)},
		"run": {
			newPs(streams), newWait(), newLogs(streams), newDown(streams),
			newNamespaces(streams, "add", "Forward further namespaces", (*control.Client).AddNamespaces),
			newRemove(streams),
		},
		"more": {newClean(streams), newVersion(streams)},
	} {
		for _, command := range commands {
			command.GroupID = group
			command.SuggestFor = otherNames[command.Name()]
			completeNothing(command)
			root.AddCommand(command)
		}
	}
	root.AddCommand(newFlush())
	root.AddCommand(rootCommands(streams)...)
	root.SetHelpCommandGroupID("more")
	root.SetCompletionCommandGroupID("more")
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	if help, _, err := root.Find([]string{"help"}); err == nil {
		help.Args = knownCommand // cobra's own shows the root's help, with status 0
	}
	return root
}

// otherNames are what commands are called elsewhere.
var otherNames = map[string][]string{
	"up": {"start", "run", "forward"}, "down": {"stop", "delete", "kill"}, "ps": {"status", "get", "list", "ls"}, "logs": {"log"},
}

// knownCommand refuses arguments that name no command.
func knownCommand(cmd *cobra.Command, args []string) error {
	if _, unknown, _ := cmd.Root().Find(args); len(unknown) > 0 {
		return unknownCommand(cmd.Root(), unknown[0])
	}
	return nil
}

// unknownCommand says which command may be meant by a name that none has.
func unknownCommand(root *cobra.Command, name string) error {
	root.SuggestionsMinimumDistance = 2
	if alike := root.SuggestionsFor(name); len(alike) > 0 {
		return fmt.Errorf("unknown command %q; did you mean %s?", name, strings.Join(alike, " or "))
	}
	return fmt.Errorf("unknown command %q", name)
}

// noArguments refuses arguments; on the root command they are unknown commands.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasSubCommands() {
		return unknownCommand(cmd, args[0])
	}
	if cmd.Flags().Lookup("namespace") != nil {
		return fmt.Errorf("%s takes no arguments, got %q; namespaces are named by -n %s", cmd.CommandPath(), args[0], args[0])
	}
	return fmt.Errorf("%s takes no arguments, got %q", cmd.CommandPath(), args[0])
}
