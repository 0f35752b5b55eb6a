package cli

import (
	"io"
	"os"

	"golang.org/x/term"
)

// isTerminal tells whether what is written is seen by a person at once.
func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// hasColours tells whether colours may be used: https://no-color.org.
func hasColours(out io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(out)
}
