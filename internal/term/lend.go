package term

import (
	"context"
	"os"
	"sync"

	"golang.org/x/term"
)

// lent is the state of a terminal while another program has it.
type lent struct {
	last      bool          // what was queued before has been taken from the queue
	quiet     chan struct{} // closed when nothing is being written
	markQuiet func()        // closes quiet
}

// Lend hands the terminal over to another program until release is called: the
// status line is removed, and lines are queued. release restores the terminal's
// modes, e.g. its echo. ok is false if stdin isn't a terminal, or this process is in
// its background. One program at a time can have it.
func (w *AsyncWriter) Lend(ctx context.Context) (in, out *os.File, release func(), ok bool) {
	in = os.Stdin
	if !isTerminal(in) || !isForeground(in) {
		return nil, nil, nil, false
	}
	out, isFile := w.out.(*os.File)
	closeOut := func() {}
	if !isFile || !w.terminal {
		tty, err := os.OpenFile(ttyPath, os.O_RDWR, 0)
		if err != nil {
			return nil, nil, nil, false
		}
		out, closeOut = tty, func() { _ = tty.Close() }
	}
	modes, err := term.GetState(int(in.Fd()))
	if err != nil || !w.pause(ctx) {
		closeOut()
		return nil, nil, nil, false
	}
	return in, out, func() {
		if isForeground(in) { // otherwise the change of modes would stop this process
			_ = term.Restore(int(in.Fd()), modes)
		}
		closeOut()
		w.resume()
	}, true
}

// pause stops the output, and waits until nothing is being written. It returns false
// if ctx ends first.
func (w *AsyncWriter) pause(ctx context.Context) bool {
	pausing := &lent{quiet: make(chan struct{})}
	pausing.markQuiet = sync.OnceFunc(func() { close(pausing.quiet) })
	w.mu.Lock()
	w.lent = pausing
	w.flushLocked()
	if !w.running {
		pausing.markQuiet()
	}
	w.mu.Unlock()
	select {
	case <-pausing.quiet:
		return true
	case <-ctx.Done():
		w.resume()
		return false
	}
}

// resume continues the output.
func (w *AsyncWriter) resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lent = nil
	w.redraw = w.status != ""
	w.flushLocked()
}

// lastLocked returns the bytes to write before the terminal is handed over. mu must
// be held.
func (w *AsyncWriter) lastLocked() []byte {
	if w.lent.last {
		return nil
	}
	w.lent.last = true
	w.reportLostLocked()
	text := w.lines
	if w.drawn {
		text = append([]byte("\r\x1b[K"), text...)
	}
	w.lines, w.drawn = nil, false
	return text
}
