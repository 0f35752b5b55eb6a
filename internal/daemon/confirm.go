package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/kubeshore/kubeshore/internal/config"
	"github.com/kubeshore/kubeshore/internal/printable"
	"github.com/kubeshore/kubeshore/internal/term"
)

// OpenConfig reads the configuration for the first time. If the project file needs a
// confirmation, it asks the user in a terminal; without one, or without consent, it
// fails.
func OpenConfig(ctx context.Context, watcher *config.Watcher) error {
	err := watcher.Open(ctx)
	unconfirmed := new(config.UnconfirmedError)
	if !errors.As(err, &unconfirmed) || !term.CanAsk() || !confirm(ctx, unconfirmed) {
		return err
	}
	if err := unconfirmed.Allow(); err != nil {
		return err
	}
	return watcher.Open(ctx)
}

// confirm asks the user to confirm a project file, and reports whether they did.
func confirm(ctx context.Context, u *config.UnconfirmedError) bool {
	var b strings.Builder
	fmt.Fprintf(&b, "The project file %s would\n", printable.Text(u.Path))
	for _, decision := range u.Decisions {
		fmt.Fprintf(&b, "  - %s\n", printable.Text(decision))
	}
	b.WriteString("Allow this, until the file changes? [y/N] ")
	answer, err := term.Ask(ctx, os.Stdin, os.Stderr, b.String())
	return err == nil && (strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes"))
}
