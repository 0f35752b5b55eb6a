// Package failure has the ways in which a command of kubeshore fails: an error
// with a hint, an error of the command line itself, and an exit status without
// a message.
package failure

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/kubeshore/kubeshore/internal/printable"
)

// hinted is an error with advice for the user.
type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }

func (h *hinted) Hint() string { return h.hint }

// WithHint returns err with a hint: one line that tells the user what to do
// about it. Error does not contain the hint; see [Hint] and [Line].
func WithHint(err error, hint string) error { return &hinted{err, hint} }

// Hint returns the hint of err, or of the first error that it wraps and that has
// one: a method Hint() string. It is empty if there is none.
func Hint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

// Line returns err in one line, followed by its hint if it has one: the form
// for a log.
func Line(err error) string {
	text := oneLine(err)
	if hint := Hint(err); hint != "" {
		text += "; " + hint
	}
	return text
}

// Message returns err as a command prints it in a terminal: one line, and a
// second one with the hint if it has one. It ends with a newline.
func Message(err error) string {
	text := "kubeshore: " + printable.Text(oneLine(err)) + "\n"
	if hint := Hint(err); hint != "" {
		text += "hint: " + printable.Text(hint) + "\n"
	}
	return text
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// usageError is an error of the command line.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// Usage marks err as an error of the command line: the program exits with
// status 2 and points to --help. Usage(nil) is nil.
func Usage(err error) error {
	if err == nil {
		return nil
	}
	return &usageError{err}
}

// IsUsage reports whether err, or an error that it wraps, was marked by [Usage].
func IsUsage(err error) bool { return errors.As(err, new(*usageError)) }

// ExitStatus ends a process whose error has already been reported to the user.
type ExitStatus int

func (s ExitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// Failed is the status of a process that failed for any reason but its command line.
const Failed ExitStatus = 1

// Report writes the message of err to out, and returns Failed. Usage errors and
// errors that have been reported are returned as they are, without a message; so
// is nil.
func Report(out io.Writer, err error) error {
	if err == nil || IsUsage(err) || IsReported(err) {
		return err
	}
	_, _ = io.WriteString(out, Message(err))
	return Failed
}

// IsReported reports whether err is, or wraps, an [ExitStatus].
func IsReported(err error) bool { return errors.As(err, new(ExitStatus)) }
