package term

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// newPipeWriter returns a writer to a pipe, and the pipe's other end.
func newPipeWriter(t *testing.T) (*AsyncWriter, *os.File) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = reader.Close() // ends a blocked write
		_ = writer.Close()
	})
	return NewAsyncWriter(writer), reader
}

// A reader that pauses blocks nobody. It gets the lines that were queued, the
// number of those that were dropped, and the later ones.
func TestWriterNeverBlocks(t *testing.T) {
	w, reader := newPipeWriter(t)
	const many = 2 * maxQueued / 16
	err := w.Run(func() error {
		for i := range many {
			fmt.Fprintf(w, "line %010d\n", i)
		}
		lines := bufio.NewScanner(reader)
		next := 0
		for lines.Scan() && lines.Text() == fmt.Sprintf("line %010d", next) {
			next++
		}
		if want := fmt.Sprintf("%d lines skipped because the terminal wasn't reading; see kubeshore logs", many-next); next == 0 || !strings.Contains(lines.Text(), want) {
			t.Errorf("after %d lines of %d: got %q, want %q", next, many, lines.Text(), want)
		}
		fmt.Fprintln(w, "the next")
		if !lines.Scan() || lines.Text() != "the next" {
			t.Errorf("after that: got %q, want %q", lines.Text(), "the next")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// Run returns after a moment even if the reader never reads.
func TestWriterEndsWithABlockedReader(t *testing.T) {
	w, _ := newPipeWriter(t)
	failed := errors.New("failed")
	begin := time.Now()
	err := w.Run(func() error {
		fmt.Fprint(w, strings.Repeat("more than a pipe has room for\n", 10_000))
		return failed
	})
	if !errors.Is(err, failed) {
		t.Errorf("Run: got %v, want %v", err, failed)
	}
	if took := time.Since(begin); took < flushTimeout || took > 5*flushTimeout {
		t.Errorf("Run took %v, want about %v", took, flushTimeout)
	}
}

// The text of Close is the last one.
func TestWriterCloses(t *testing.T) {
	w, reader := newPipeWriter(t)
	read := make(chan string)
	go func() {
		text, _ := io.ReadAll(reader)
		read <- string(text)
	}()
	failed := errors.New("failed")
	err := w.Run(func() error {
		fmt.Fprintln(w, "first")
		w.Close("the end\n")
		fmt.Fprintln(w, "never")
		return failed
	})
	if !errors.Is(err, failed) {
		t.Errorf("Run: got %v, want %v", err, failed)
	}
	_ = w.out.(*os.File).Close()
	if got, want := <-read, "first\nthe end\n"; got != want {
		t.Errorf("output: got %q, want %q", got, want)
	}
}
