package term

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/sirupsen/logrus"
	"golang.org/x/term"

	"github.com/kubeshore/kubeshore/internal/wake"
)

const (
	// maxQueued is how many bytes wait at most for a reader that doesn't read.
	maxQueued = 4 << 20
	// flushTimeout is how long Run waits at its end for the queue to be read.
	flushTimeout = time.Second
)

// AsyncWriter writes whole lines to a terminal, or to whatever stderr is. During
// Run it queues them, so that a reader that stops reading (Ctrl-S, a pager)
// blocks nobody; before Run it writes at once. In a terminal it can keep a status
// line below the output. Any goroutine may call its methods.
type AsyncWriter struct {
	// OnFlushed is called by Run when the queue was written after Close. It may
	// be nil, and must be set before Run.
	OnFlushed func()

	out        io.Writer
	terminal   bool
	live       bool // has a status line that is redrawn
	colors     bool
	size       func() (columns, rows int) // of the terminal; 0 if unknown
	foreground func() bool                // nil: always
	queue      wake.Trigger

	mu        sync.Mutex
	formatter logrus.Formatter // of the writer's own messages
	running   bool
	closed    bool   // later lines are dropped
	lines     []byte // queued
	lost      int    // lines dropped since the queue was full
	status    string // the status line; empty if there is none
	redraw    bool   // the status line has to be written
	drawn     bool   // the cursor is on a status line
	lent      *lent  // nil unless another program has the terminal
	err       error  // of the last write
	onBroken  func() // called when the reader is gone (EPIPE), possibly more than once; may be nil
}

// NewAsyncWriter returns a writer to out.
func NewAsyncWriter(out io.Writer) *AsyncWriter {
	w := &AsyncWriter{
		out: out, terminal: isTerminal(out), live: isTerminal(out) && !isDumb(), colors: HasColors(out),
		size: func() (int, int) { return 0, 0 }, formatter: NewFormatter(Text, time.TimeOnly), queue: wake.NewTrigger(),
	}
	if file, ok := out.(*os.File); ok && w.terminal {
		w.size = func() (columns, rows int) {
			columns, rows, err := term.GetSize(int(file.Fd()))
			if err != nil || columns <= 0 || rows <= 0 {
				return defaultColumns, defaultRows
			}
			return columns, rows
		}
		w.foreground = func() bool { return isForeground(file) }
	}
	return w
}

// Width returns the terminal's width in columns, or 0 if it is unknown.
func (w *AsyncWriter) Width() int {
	columns, _ := w.size()
	return columns
}

// Height returns the terminal's height in rows, or 0 if it is unknown.
func (w *AsyncWriter) Height() int {
	_, rows := w.size()
	return rows
}

// The size of a terminal that doesn't report it.
const (
	defaultColumns = 80
	defaultRows    = 24
)

// Write queues lines. Lines for which there is no room are counted and reported
// later. It never fails.
func (w *AsyncWriter) Write(lines []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
	case w.lost > 0 || len(w.lines)+len(lines) > maxQueued:
		w.lost += bytes.Count(lines, []byte("\n"))
	default:
		w.lines = append(w.lines, lines...)
	}
	w.flushLocked()
	return len(lines), nil
}

// SetFormatter sets the format of the writer's own messages.
func (w *AsyncWriter) SetFormatter(f logrus.Formatter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.formatter = f
}

// SetStatus sets the status line, cut to the terminal's width. A job in the
// background has none, because it would overwrite the user's command line.
func (w *AsyncWriter) SetStatus(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case !w.live:
	case w.foreground != nil && !w.foreground():
		w.status, w.drawn, w.redraw = "", false, false
	default:
		w.status, w.redraw = text, true
		w.flushLocked()
	}
}

// Close queues a last text, for which there is always room, and drops all later
// lines. It does not wait for the queue.
func (w *AsyncWriter) Close(last string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.reportLostLocked()
		w.lines = append(w.lines, last...)
		w.closed = true
		w.flushLocked()
	}
}

// OnBroken sets a function that is called when the reader is gone.
func (w *AsyncWriter) OnBroken(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.onBroken = f
}

// Err returns the error of the last write.
func (w *AsyncWriter) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// flushLocked has the queue written, at once if Run isn't running. mu must be held.
func (w *AsyncWriter) flushLocked() {
	if w.running {
		w.queue.Fire()
		return
	}
	if text := w.nextLocked(); len(text) > 0 {
		_, w.err = w.out.Write(text)
	}
}

// nextLocked empties the queue and returns the bytes to write. mu must be held.
func (w *AsyncWriter) nextLocked() []byte {
	if w.lent != nil {
		return w.lastLocked()
	}
	w.reportLostLocked()
	if len(w.lines) == 0 && !w.redraw {
		return nil
	}
	text := w.lines
	if w.drawn {
		text = append([]byte("\r\x1b[K"), text...)
	}
	if w.live {
		text = append(text, w.fit(w.status)...)
	}
	w.lines, w.redraw, w.drawn = nil, false, w.status != ""
	return text
}

// reportLostLocked queues a line with the number of dropped lines. mu must be held.
func (w *AsyncWriter) reportLostLocked() {
	if w.lost == 0 {
		return
	}
	line, err := w.formatter.Format(&logrus.Entry{
		Time: time.Now(), Level: logrus.WarnLevel,
		Message: fmt.Sprintf("%d lines skipped because the terminal wasn't reading; see kubeshore logs", w.lost),
	})
	if err == nil {
		w.lines = append(w.lines, line...)
	}
	w.lost = 0
}

// fit cuts the status line to the terminal's width, less the "^C" that a
// terminal echoes behind it.
func (w *AsyncWriter) fit(text string) string {
	if room := w.Width() - len("^C "); utf8.RuneCountInString(text) > room {
		text = string([]rune(text)[:max(room-1, 0)]) + "…"
	}
	return w.colored(text, Bold)
}

// colored returns text in a color if the terminal has colors.
func (w *AsyncWriter) colored(text, color string) string {
	if !w.colors {
		return text
	}
	return Colored(text, color)
}

// Run calls do, queues everything that is written meanwhile, and returns do's
// error. At the end it waits up to a second for the queue to be read; a writer
// that is still blocked then ends with the process. It must be called once.
func (w *AsyncWriter) Run(do func() error) error {
	w.mu.Lock()
	w.running = true
	w.mu.Unlock()
	written := make(chan struct{})
	go func() {
		defer close(written)
		w.writeQueued()
	}()
	err := do()
	w.Close("")
	timeout := time.NewTimer(flushTimeout)
	defer timeout.Stop()
	select {
	case <-written:
	case <-timeout.C:
	}
	return err
}

// writeQueued writes the queue until the writer is closed and the queue empty.
func (w *AsyncWriter) writeQueued() {
	for {
		w.mu.Lock()
		text, closed := w.nextLocked(), w.closed && w.lent == nil
		if len(text) == 0 && w.lent != nil {
			w.lent.markQuiet()
		}
		w.mu.Unlock()
		switch {
		case len(text) > 0:
			w.write(text)
		case closed:
			if w.OnFlushed != nil {
				w.OnFlushed()
			}
			return
		default:
			<-w.queue.C()
		}
	}
}

func (w *AsyncWriter) write(text []byte) {
	_, err := w.out.Write(text)
	w.mu.Lock()
	w.err = err
	onBroken := w.onBroken
	w.mu.Unlock()
	if onBroken != nil && errors.Is(err, syscall.EPIPE) {
		onBroken()
	}
}
