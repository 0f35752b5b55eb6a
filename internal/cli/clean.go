package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/txn2/txeh"

	"github.com/kubeshore/kubeshore/pkg/hosts"
	"github.com/kubeshore/kubeshore/pkg/loopback"
)

// newClean returns the command that puts right what killed runs have left.
func newClean(streams Streams) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "clean",
		Short: "Put right what a killed run has left",
		Long: `Take away from the hosts file what runs of kubeshore have left that were killed
together with what watches over them. What a running kubeshore has written
stays. It needs root, as the hosts file does.`,
		Example: "  sudo kubeshore clean",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			done, err := hosts.Clean(cmd.Context(), path)
			if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
				return fmt.Errorf("%w; it needs root: sudo kubeshore clean", err)
			}
			if err != nil {
				return err
			}
			sayCleaned(streams, path, done)
			if err := loopback.CleanAliases(cmd.Context(), done.Addresses); err != nil {
				return err
			}
			if len(done.Owners) > 0 {
				flushNames(newLog(streams.Err, formatText, 0))(cmd.Context())
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&path, "hosts-file", hosts.DefaultPath(), "hosts file to clean")
	return cmd
}

func sayCleaned(streams Streams, path string, done hosts.Cleaned) {
	for _, owner := range done.Owners {
		fmt.Fprintf(streams.Out, "%s: took away the names of user %s\n", path, owner)
	}
	for _, file := range done.Files {
		fmt.Fprintf(streams.Out, "removed %s\n", file)
	}
	for _, owner := range done.Running {
		fmt.Fprintf(streams.Out, "%s: the names of user %s stay, as that user's kubeshore runs\n", path, owner)
	}
	for _, line := range done.Left {
		fmt.Fprintf(streams.Out, "%s: left alone, as it may be yours: %s\n", path, line)
	}
	if len(done.Owners)+len(done.Files)+len(done.Running)+len(done.Left) == 0 {
		fmt.Fprintln(streams.Out, "nothing to clean")
	}
}

// newFlush returns the command that flushNames runs.
func newFlush() *cobra.Command {
	return &cobra.Command{
		Use: "flush-names", Hidden: true, Args: noArguments,
		RunE: func(*cobra.Command, []string) error { return txeh.FlushDNSCache() },
	}
}

// flushNames returns what empties the system's cache of names. The programs that do
// so are found by PATH, so it is done by a process that has no other PATH than the
// system's.
func flushNames(log logrus.FieldLogger) func(context.Context) {
	return func(ctx context.Context) {
		self, err := os.Executable()
		if err != nil {
			log.Debugf("the cache of names isn't emptied: %v", err)
			return
		}
		command := exec.CommandContext(ctx, self, "flush-names")
		if runtime.GOOS != "windows" {
			command.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
		}
		if said, err := command.CombinedOutput(); err != nil {
			log.Debugf("the cache of names isn't emptied: %v: %s", err, strings.TrimSpace(string(said)))
		}
	}
}
