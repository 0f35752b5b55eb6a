package controlserver

import (
	"bytes"
	"context"
	"io"
	"sync"

	"github.com/kubeshore/kubeshore/pkg/control"
)

const (
	// journalSize is how much of the log is kept in memory, in bytes.
	journalSize = 1 << 20
	// maxJournalLag is how many lines a reader may be behind.
	maxJournalLag = 4096
)

// Journal keeps the last of the log, for those who ask for it. It is an io.Writer that
// a line is written to at a time. The zero value is empty.
type Journal struct {
	mu    sync.Mutex
	lines [][]byte
	size  int
	hub   hub[[]byte]
}

// Write keeps a line.
func (j *Journal) Write(line []byte) (int, error) {
	kept := bytes.Clone(line)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, kept)
	j.size += len(kept)
	for j.size > journalSize {
		j.size -= len(j.lines[0])
		j.lines[0] = nil
		j.lines = j.lines[1:]
	}
	j.hub.send(kept)
	return len(line), nil
}

// CopyTo writes the last lines, all that there are if tail is negative, and, if it is to
// follow, those that come until ctx ends.
func (j *Journal) CopyTo(ctx context.Context, w io.Writer, tail int, follow bool) error {
	j.mu.Lock()
	lines := j.lines
	if tail >= 0 {
		lines = lines[max(0, len(lines)-tail):]
	}
	last := bytes.Join(lines, nil)
	heard, leave := j.hub.listen(maxJournalLag)
	j.mu.Unlock()
	defer leave()
	if _, err := w.Write(last); err != nil || !follow {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return copyRest(w, heard)
		case line, ok := <-heard:
			if !ok {
				return control.ErrBehind
			}
			if _, err := w.Write(line); err != nil {
				return err
			}
		}
	}
}

// copyRest writes what was heard and not written yet.
func copyRest(w io.Writer, heard <-chan []byte) error {
	for {
		select {
		case line, ok := <-heard:
			if !ok {
				return control.ErrBehind
			}
			if _, err := w.Write(line); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}
