//go:build !windows

package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/launch"
	"github.com/kubeshore/kubeshore/internal/machine"
	"github.com/kubeshore/kubeshore/internal/term"
)

// privilegedCommands returns the commands of the processes that run as root.
func privilegedCommands(streams Streams) []*cobra.Command {
	var socket string
	keeper := newPrivilegedCommand(launch.KeeperCommand, func(cmd *cobra.Command, o machine.Options) error {
		log, _ := term.NewLog(streams.Err, term.Text, 0)
		return launch.Keeper(cmd.Context(), o, log)
	})
	connect := newPrivilegedCommand(launch.KeeperConnectCommand, func(_ *cobra.Command, o machine.Options) error {
		if err := launch.KeeperConnect(socket, o); err != nil {
			fmt.Fprintln(streams.Err, err) // without a prefix, as the daemon quotes it
			return failure.ExitStatus(launch.KeeperConnectFailed)
		}
		return nil
	})
	connect.Flags().StringVar(&socket, "socket", "", "path of the daemon's socket")
	guard := newPrivilegedCommand(launch.GuardCommand, func(_ *cobra.Command, o machine.Options) error {
		log, _ := term.NewLog(streams.Err, term.Text, 0)
		return launch.Guard(o, log)
	})
	return []*cobra.Command{keeper, connect, guard}
}

func newPrivilegedCommand(use string, run func(*cobra.Command, machine.Options) error) *cobra.Command {
	var flags launch.PrivilegedFlags
	cmd := &cobra.Command{
		Use: use, Hidden: true, Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := flags.Options()
			if err != nil {
				return failure.Usage(err)
			}
			return run(cmd, o)
		},
	}
	flags.Define(cmd.Flags())
	return cmd
}
