package term

import (
	"context"
	"io"
	"os"
	"strings"
)

// CanAsk reports whether stdin and stderr are a terminal in whose foreground this
// process is.
func CanAsk() bool { return isTerminal(os.Stderr) && isTerminal(os.Stdin) && isForeground(os.Stdin) }

// Ask writes a question and returns the line that is the answer, without spaces around
// it. In a terminal, a read returns one line at most, so the input behind it is left to
// others. If ctx ends, the read ends with the next line, or with the process.
func Ask(ctx context.Context, in io.Reader, out io.Writer, question string) (string, error) {
	if _, err := io.WriteString(out, question); err != nil {
		return "", err
	}
	type result struct {
		text string
		err  error
	}
	answered := make(chan result, 1)
	go func() {
		line := make([]byte, 256)
		n, err := in.Read(line)
		answered <- result{strings.TrimSpace(string(line[:n])), err}
	}()
	select {
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case r := <-answered:
		return r.text, r.err
	}
}
