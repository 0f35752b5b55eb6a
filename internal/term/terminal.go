// Package term writes to the terminal and to the log file: a writer that never
// blocks its callers, a log view with a status line, and a log file that
// rotates.
package term

import (
	"io"
	"os"
	"runtime"

	"golang.org/x/term"
)

// isTerminal reports whether out is a terminal.
func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// isDumb reports whether the terminal, if there is one, understands no escape
// sequences.
func isDumb() bool {
	kind := os.Getenv("TERM")
	return kind == "dumb" || kind == "" && runtime.GOOS != "windows" // Windows doesn't set TERM
}

// HasColours reports whether out may get colours (https://no-color.org).
func HasColours(out io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && !isDumb() && isTerminal(out)
}

// The colours, as parameters of ECMA-48's SGR sequence.
const (
	Bold   = "1"
	Dim    = "2"
	Red    = "31"
	Green  = "32"
	Yellow = "33"
)

// Coloured returns text in a colour.
func Coloured(text, colour string) string {
	if colour == "" || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}
