package credential

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kubeshore/kubeshore/internal/printable"
)

// Error is the failure of a credential plugin.
type Error struct {
	// Context is the kubeconfig's context.
	Context string
	// RetryAt is when the plugin may run again.
	RetryAt time.Time

	plugin string
	reason error
}

// Error returns the reason in one line, and what happens next. A plugin that is
// missing or forbidden would fail in a terminal too.
func (e *Error) Error() string {
	if errors.As(e.reason, new(missingError)) || errors.As(e.reason, new(forbiddenError)) {
		return e.Reason()
	}
	return fmt.Sprintf("%s; next attempt after %s; to run it in a terminal: kubeshore login %s",
		e.Reason(), e.RetryAt.Format(time.TimeOnly), quote(e.Context))
}

// GiveUp returns err without what happens next, for a process that doesn't try again.
func GiveUp(err error) error {
	if failed := new(Error); errors.As(err, &failed) {
		return errors.New(failed.Reason())
	}
	return err
}

// Reason returns the reason alone.
func (e *Error) Reason() string {
	text := fmt.Sprintf("context %s: credential plugin %s failed: %v", printable.Line(e.Context, maxQuote), e.plugin, e.reason)
	return printable.Line(text, 3*maxQuote)
}

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.reason }

// quote returns an argument as it is typed in a shell.
func quote(argument string) string {
	argument = printable.Line(argument, maxQuote)
	if strings.ContainsAny(argument, " \t'\"\\$`*?[]{}()<>|&;#~!") {
		return strconv.Quote(argument)
	}
	return argument
}
