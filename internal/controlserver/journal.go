package controlserver

import (
	"bytes"
	"context"
	"io"
	"sync"

	"github.com/kubeshore/kubeshore/pkg/control"
)

const (
	// journalSize limits the kept part of the log, in bytes.
	journalSize = 1 << 20
	// maxJournalLag is the number of lines that a reader may be behind.
	maxJournalLag = 4096
)

// Journal keeps the end of the log in memory, and passes new lines to readers. Each call of
// Write adds one line. The zero Journal is empty and ready to use.
type Journal struct {
	mu      sync.Mutex
	lines   [][]byte
	size    int
	readers map[chan []byte]struct{}
}

// Write adds a line. It never waits for readers.
func (j *Journal) Write(p []byte) (int, error) {
	line := bytes.Clone(p)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
	j.size += len(line)
	for j.size > journalSize {
		j.size -= len(j.lines[0])
		j.lines[0] = nil
		j.lines = j.lines[1:]
	}
	for reader := range j.readers {
		select {
		case reader <- line:
		default:
			j.dropLocked(reader)
		}
	}
	return len(p), nil
}

// CopyTo writes the last lines to w, or all kept lines if tail is negative. With follow, it
// then writes new lines until ctx is done. It returns [control.ErrBehind] if w is too slow.
func (j *Journal) CopyTo(ctx context.Context, w io.Writer, tail int, follow bool) error {
	last, newLines, unsubscribe := j.subscribe(tail)
	defer unsubscribe()
	if _, err := w.Write(last); err != nil || !follow {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return copyBuffered(w, newLines)
		case line, ok := <-newLines:
			if !ok {
				return control.ErrBehind
			}
			if _, err := w.Write(line); err != nil {
				return err
			}
		}
	}
}

// subscribe returns the last lines, and a channel that receives all lines after them. The
// channel is closed when its reader is more than maxJournalLag lines behind.
func (j *Journal) subscribe(tail int) (last []byte, newLines <-chan []byte, unsubscribe func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	lines := j.lines
	if tail >= 0 {
		lines = lines[max(0, len(lines)-tail):]
	}
	reader := make(chan []byte, maxJournalLag)
	if j.readers == nil {
		j.readers = make(map[chan []byte]struct{})
	}
	j.readers[reader] = struct{}{}
	return bytes.Join(lines, nil), reader, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.dropLocked(reader)
	}
}

// dropLocked removes a reader and closes its channel. The caller must hold j.mu.
func (j *Journal) dropLocked(reader chan []byte) {
	if _, subscribed := j.readers[reader]; subscribed {
		delete(j.readers, reader)
		close(reader)
	}
}

// copyBuffered writes the lines that the channel holds.
func copyBuffered(w io.Writer, lines <-chan []byte) error {
	for {
		select {
		case line, ok := <-lines:
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
