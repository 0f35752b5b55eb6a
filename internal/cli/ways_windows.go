package cli

import (
	"context"
	"errors"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
)

// start forwards. There is one process, which an administrator has started.
func start(ctx context.Context, f upFlags, log *logrus.Logger) error {
	p := f.privileges()
	if f.user != "" {
		return usage(errors.New("--user has no meaning on Windows"))
	}
	return up(ctx, f, log, func(ctx context.Context) (machine, error) {
		if f.rootless {
			return openRootless(ctx, p, log)
		}
		return openOwn(ctx, p, log)
	})
}

// rootCommands are the programs of a root half: there is none.
func rootCommands(Streams) []*cobra.Command { return nil }
