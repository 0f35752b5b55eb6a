package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/machine"
	"github.com/kubeshore/kubeshore/internal/term"
	"github.com/kubeshore/kubeshore/pkg/hosts"
	"github.com/kubeshore/kubeshore/pkg/loopback"
)

// newClean returns the command that cleans up after killed runs.
func newClean(streams Streams) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "clean",
		Short: "Clean up after a killed run",
		Long: `Remove hosts-file entries left behind when all kubeshore processes were killed at
once. Entries of a running kubeshore are kept. Changing the hosts file needs
root.`,
		Example: "  sudo kubeshore clean",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := filepath.Abs(path)
			if err == nil {
				err = machine.CheckHostsFile(path)
			}
			if err != nil {
				return err
			}
			cleaned, err := hosts.Clean(cmd.Context(), path)
			if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
				return failure.WithHint(err, "run sudo kubeshore clean")
			}
			if err != nil {
				return err
			}
			reportCleaned(streams, path, cleaned)
			if err := loopback.CleanAliases(cmd.Context(), cleaned.Addresses); err != nil {
				return err
			}
			if len(cleaned.Owners) > 0 {
				log, _ := term.NewLog(streams.Err, term.Text, 0)
				machine.DNSCacheFlusher(log)(cmd.Context())
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&path, "hosts-file", hosts.DefaultPath(), "hosts file to clean")
	return cmd
}

func reportCleaned(streams Streams, path string, cleaned hosts.CleanResult) {
	for _, owner := range cleaned.Owners {
		fmt.Fprintf(streams.Out, "%s: removed the entries of user %s\n", path, owner)
	}
	for _, file := range cleaned.Files {
		fmt.Fprintf(streams.Out, "removed %s\n", file)
	}
	for _, owner := range cleaned.Running {
		fmt.Fprintf(streams.Out, "%s: kept the entries of user %s, whose kubeshore is running\n", path, owner)
	}
	for _, line := range cleaned.Suspects {
		fmt.Fprintf(streams.Out, "%s: kept a line that may be yours: %s\n", path, line)
	}
	if len(cleaned.Owners)+len(cleaned.Files)+len(cleaned.Running)+len(cleaned.Suspects) == 0 {
		fmt.Fprintln(streams.Out, "nothing to clean up")
	}
}
