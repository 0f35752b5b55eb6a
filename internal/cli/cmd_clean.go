package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

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
		Long: `Remove the leftovers of kubeshore processes that were all killed at once: entries of
the hosts file and, on Linux, claims of addresses in /run/kubeshore-claims. Those of
a running kubeshore are kept. Changing them needs root.`,
		Example: "  sudo kubeshore clean",
		Args:    noArguments,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runClean(cmd.Context(), streams, path) },
	}
	cmd.Flags().StringVar(&path, "hosts-file", hosts.DefaultPath(), "hosts file to clean")
	return cmd
}

// runClean removes all leftovers. It removes the claims even if the hosts file's can't be.
func runClean(ctx context.Context, streams Streams, path string) error {
	claims, claimsErr := machine.CleanClaims(ctx)
	for _, file := range claims.Removed {
		fmt.Fprintf(streams.Out, "removed %s\n", file)
	}
	reported, err := cleanHosts(ctx, streams, path)
	if len(claims.Left) > 0 {
		claimsErr = errors.Join(claimsErr, &fs.PathError{Op: "remove", Path: strings.Join(claims.Left, ", "), Err: fs.ErrPermission})
	}
	err = errors.Join(err, claimsErr)
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return failure.WithHint(err, "run sudo kubeshore clean")
	}
	if err == nil && !reported && len(claims.Removed) == 0 {
		fmt.Fprintln(streams.Out, "nothing to clean up")
	}
	return err
}

// cleanHosts removes the leftovers in the hosts file at path and next to it. It returns
// whether it reported something.
func cleanHosts(ctx context.Context, streams Streams, path string) (reported bool, err error) {
	path, err = filepath.Abs(path)
	if err == nil {
		err = machine.CheckHostsFile(path)
	}
	if err != nil {
		return false, err
	}
	cleaned, err := hosts.Clean(ctx, path)
	if err != nil {
		return false, err
	}
	reported = reportCleaned(streams, path, cleaned)
	if err := loopback.CleanAliases(ctx, cleaned.Addresses); err != nil {
		return reported, err
	}
	if len(cleaned.Owners) > 0 {
		log, _ := term.NewLog(streams.Err, term.Text, 0)
		machine.DNSCacheFlusher(log)(ctx)
	}
	return reported, nil
}

// reportCleaned prints the removed and the kept entries and files. It reports whether
// there are any.
func reportCleaned(streams Streams, path string, cleaned hosts.CleanResult) bool {
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
	return len(cleaned.Owners)+len(cleaned.Files)+len(cleaned.Running)+len(cleaned.Suspects) > 0
}
