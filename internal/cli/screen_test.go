package cli

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

// screenOnPipe returns a screen, and the end of the pipe that it writes to.
func screenOnPipe(t *testing.T) (*screen, *os.File) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = reader.Close() // ends who writes
		_ = writer.Close()
	})
	return newScreen(writer), reader
}

// A reader that takes nothing for a while holds nobody up. It gets the lines that there was
// room for, how many more there were, and those that came later.
func TestScreenWaitsForNobody(t *testing.T) {
	s, reader := screenOnPipe(t)
	const many = 2 * screenRoom / 16
	err := s.during(func() error {
		for i := range many {
			fmt.Fprintf(s, "line %010d\n", i)
		}
		lines := bufio.NewScanner(reader)
		next := 0
		for lines.Scan() && lines.Text() == fmt.Sprintf("line %010d", next) {
			next++
		}
		if want := fmt.Sprintf("%d lines weren't shown here, as nothing was taken: kubeshore logs", many-next); next == 0 || !strings.Contains(lines.Text(), want) {
			t.Errorf("after %d lines of %d it says %q", next, many, lines.Text())
		}
		fmt.Fprintln(s, "the next")
		if !lines.Scan() || lines.Text() != "the next" {
			t.Errorf("then it says %q", lines.Text())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// In the end a reader has a moment; one that takes nothing is left alone with it.
func TestScreenEnds(t *testing.T) {
	stalled, _ := screenOnPipe(t)
	begin := time.Now()
	err := stalled.during(func() error {
		fmt.Fprint(stalled, strings.Repeat("more than a pipe has room for\n", 10_000))
		return errors.New("wrong")
	})
	if status := exitStatus(0); !errors.As(err, &status) || status != exitFault {
		t.Errorf("it ends with %v", err)
	}
	if took := time.Since(begin); took < lastWords || took > 5*lastWords {
		t.Errorf("it takes %v", took)
	}

	s, reader := screenOnPipe(t)
	said := make(chan string)
	go func() {
		text, _ := io.ReadAll(reader)
		said <- string(text)
	}()
	err = s.during(func() error {
		fmt.Fprintln(s, "first")
		s.close("the end\n")
		fmt.Fprintln(s, "never")
		return usage(errors.New("wrong"))
	})
	if !errors.As(err, new(usageError)) {
		t.Errorf("it ends with %v", err)
	}
	_ = s.out.(*os.File).Close()
	if got, want := <-said, "first\nthe end\n"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
}
