package cli

import (
	"io"
	"os"
	"runtime"

	"golang.org/x/term"
)

// isTerminal tells whether what is written is seen by a person at once.
func isTerminal(out io.Writer) bool {
	if s, ok := out.(*screen); ok {
		return s.terminal
	}
	file, ok := out.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// isDumb tells whether the terminal, if there is one, knows nothing but text.
func isDumb() bool {
	kind := os.Getenv("TERM")
	return kind == "dumb" || kind == "" && runtime.GOOS != "windows" // where nothing sets it
}

// hasColours tells whether colours may be used: https://no-color.org.
func hasColours(out io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && !isDumb() && isTerminal(out)
}
