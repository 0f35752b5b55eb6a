// Package cli is the command line of kubeshore: commands, flags and their help,
// and how errors are shown.
package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/version"
)

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = int(failure.Failed) // stderr has the error
	exitUsage  = 2                   // invalid command line
)

// Main runs a command line, without the program's name, and returns the exit
// status. When ctx ends, the command shuts down.
func Main(ctx context.Context, args []string, streams Streams) int {
	root := newRoot(streams)
	root.SetArgs(args)
	started := false
	root.PersistentPreRun = func(*cobra.Command, []string) { started = true }
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if status := failure.ExitStatus(0); errors.As(err, &status) {
		return int(status)
	}
	fmt.Fprint(streams.Err, failure.Message(err))
	if !started || failure.IsUsage(err) { // cobra refused the command line, or the command did
		fmt.Fprintf(streams.Err, "See '%s --help'.\n", command.CommandPath())
		return exitUsage
	}
	return exitFailed
}

func newRoot(streams Streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "kubeshore",
		Short: "Forward all services of Kubernetes namespaces to this machine, under their own names",
		Long: `kubeshore forwards every service of the given Kubernetes namespaces to this
machine. Each service gets its own loopback address, its own ports and its own
names for as long as kubeshore runs. When kubeshore stops, it undoes its changes
to the machine.`,
		Example: `  kubeshore up -n default,kube-system  # forward these namespaces until Ctrl-C
  kubeshore up -d                      # the current context's namespace, in the background
  kubeshore ps                         # show services, problems first
  kubeshore logs -f                    # follow the log
  kubeshore down                       # stop and clean up`,
		Version:       version.String(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.SetVersionTemplate(version.Line() + "\n")
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	root.SetFlagErrorFunc(flagError)
	root.AddGroup(&cobra.Group{ID: "forward", Title: "Forward:"}, &cobra.Group{ID: "run", Title: "While it runs:"}, &cobra.Group{ID: "more", Title: "More:"})
	for _, group := range []struct {
		id       string
		commands []*cobra.Command
	}{
		{"forward", []*cobra.Command{newUp(streams), newSvc(streams)}},
		{"run", []*cobra.Command{newPs(streams), newWait(), newLogs(streams), newDown(streams), newAdd(streams), newRemove(streams), newLogin(streams)}},
		{"more", []*cobra.Command{newAllow(streams), newClean(streams), newSudoers(streams), newVersion(streams)}},
	} {
		for _, command := range group.commands {
			command.GroupID = group.id
			command.SuggestFor = otherNames[command.Name()]
			disableFileCompletion(command)
			root.AddCommand(command)
		}
	}
	root.AddCommand(internalCommands()...)
	addCobraCommands(root)
	return root
}

// addCobraCommands adds cobra's own commands: help and completion.
func addCobraCommands(root *cobra.Command) {
	root.SetHelpCommandGroupID("more")
	root.SetCompletionCommandGroupID("more")
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	if help, _, err := root.Find([]string{"help"}); err == nil {
		help.Args = knownCommand // cobra's own shows the root's help, with status 0
	}
}

// otherNames maps commands to their names in other programs.
var otherNames = map[string][]string{
	"up": {"start", "run", "forward"}, "down": {"stop", "delete", "kill"}, "ps": {"status", "get", "list", "ls"}, "logs": {"log"},
}
