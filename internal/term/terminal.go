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

// HasColors reports whether out may get colors (https://no-color.org).
func HasColors(out io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && !isDumb() && isTerminal(out)
}

// The colors, as parameters of ECMA-48's SGR sequence.
const (
	Bold   = "1"
	Dim    = "2"
	Red    = "31"
	Green  = "32"
	Yellow = "33"
)

// Colored returns text in a color.
func Colored(text, color string) string {
	if color == "" || text == "" {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}
