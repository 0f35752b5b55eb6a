//go:build !windows

package term

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// A terminal without escape sequences gets plain lines and no status line.
func TestViewInDumbTerminal(t *testing.T) {
	for _, kind := range []string{"dumb", ""} {
		t.Setenv("TERM", kind)
		terminal, tty, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		out := NewAsyncWriter(tty)
		err = out.Run(func() error {
			log, view := NewLog(out, Text, 0)
			view.SetStatus("the status line")
			log.WithTime(time.Date(2025, 3, 1, 9, 30, 0, 0, time.UTC)).Warn("a warning")
			view.SetStatus("")
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		text := make([]byte, 1000)
		n, err := terminal.Read(text)
		if got, want := string(text[:n]), "09:30:00 a warning\r\n"; got != want || err != nil {
			t.Errorf("TERM=%s: got %q, %v, want %q", kind, got, err, want)
		}
		_ = tty.Close()
		_ = terminal.Close()
	}
}

// The stderr of a process in the background goes to the log file, and to each one
// that follows it.
func TestStderrFollowsRotation(t *testing.T) {
	own, err := DupStderr()
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	path := filepath.Join(t.TempDir(), "log")
	file, err := OpenLogFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	file.max = 100
	defer func() {
		if err := unix.Dup2(int(own.Fd()), 2); err != nil {
			t.Fatal(err)
		}
	}()
	if err := file.RedirectStderr(); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := fmt.Fprintf(file, "%s\n", strings.Repeat("x", 90)); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("panic %d\n", i)
		if _, err := os.Stderr.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if content, err := os.ReadFile(path); err != nil || !strings.HasSuffix(string(content), "\n"+text) {
			t.Errorf("file: got %q, %v, want %q at its end", content, err, text)
		}
	}
}
