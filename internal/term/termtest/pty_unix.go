//go:build !windows

package termtest

import (
	"bufio"
	"os"
	"testing"

	"github.com/creack/pty"
)

// OpenPTY returns a terminal with the given number of columns, a function that
// changes it, and the terminal's screen.
func OpenPTY(t *testing.T, columns int) (tty *os.File, resize func(int), grid *Grid) {
	t.Helper()
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	terminal, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	grid = NewGrid(t, columns)
	resize = func(columns int) {
		t.Helper()
		if err := pty.Setsize(tty, &pty.Winsize{Rows: 30, Cols: uint16(columns)}); err != nil {
			t.Fatal(err)
		}
		grid.Resize(columns)
	}
	resize(columns)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for runes := bufio.NewReader(terminal); ; {
			r, _, err := runes.ReadRune()
			if err != nil {
				return
			}
			_, _ = grid.Write([]byte(string(r)))
		}
	}()
	t.Cleanup(func() {
		_ = tty.Close()
		<-read
		_ = terminal.Close()
	})
	return tty, resize, grid
}
