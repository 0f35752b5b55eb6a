package cli

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
)

const (
	// screenRoom is how much may wait for who reads a screen, in bytes.
	screenRoom = 4 << 20
	// lastWords is how long who reads a screen may take for what still waits in the end.
	lastWords = time.Second
)

// screen is what the caller of the program reads: a terminal, or whatever stderr is. What
// is written is queued while during runs, so that one that takes no more (Ctrl-S, a pager)
// holds nobody up; before that it is written at once. It is an io.Writer of whole lines.
type screen struct {
	out       io.Writer
	terminal  bool
	live      bool // it can have a last line, which is written anew
	colours   bool
	width     func() int       // in columns; 0 if it isn't known
	ours      func() bool      // whether the terminal is for this job now; nil: it is
	formatter logrus.Formatter // of its own lines
	due       chan struct{}    // receives when there is something to write
	ended     func()           // is called when all of what was queued is written; may be nil

	mu     sync.Mutex
	queued bool
	over   bool   // what is written isn't shown any more
	lines  []byte // those that wait
	lost   int    // how many more there were no room for
	last   string // the last line; empty if there is none
	redraw bool   // it is to be written
	drawn  bool   // the cursor is behind one
	err    error  // of the last write
	broken func() // is called when its reader has gone (EPIPE), more than once too; may be nil
}

func newScreen(out io.Writer) *screen {
	s := &screen{
		out: out, terminal: isTerminal(out), live: isTerminal(out) && !isDumb(), colours: hasColours(out),
		width: func() int { return 0 }, formatter: newFormatter(formatText, time.TimeOnly), due: make(chan struct{}, 1),
	}
	if file, ok := out.(*os.File); ok && s.terminal {
		s.width = func() int {
			width, _, err := term.GetSize(int(file.Fd()))
			if err != nil || width <= 0 {
				return 80
			}
			return width
		}
		s.ours = func() bool { return inForeground(file) }
	}
	return s
}

// Write has lines shown, or counted where there is no room for them. It never fails: what
// is said is kept elsewhere too.
func (s *screen) Write(lines []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over:
	case s.lost > 0 || len(s.lines)+len(lines) > screenRoom:
		s.lost += bytes.Count(lines, []byte("\n"))
	default:
		s.lines = append(s.lines, lines...)
	}
	s.wake()
	return len(lines), nil
}

// draw makes text the last line, as much of it as there is room for. A job in the
// background has none: it would stand where somebody types.
func (s *screen) draw(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.live:
	case s.ours != nil && !s.ours():
		s.last, s.drawn, s.redraw = "", false, false
	default:
		s.last, s.redraw = text, true
		s.wake()
	}
}

// close has what was written so far shown, then farewell, which there always is room for,
// and nothing more.
func (s *screen) close(farewell string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		s.count()
		s.lines = append(s.lines, farewell...)
		s.over = true
		s.wake()
	}
}

// whenBroken has what was given called when the screen's reader has gone.
func (s *screen) whenBroken(call func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = call
}

// fault is why what was written last isn't shown, if that is known.
func (s *screen) fault() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// wake has written what there is to write. mu must be held.
func (s *screen) wake() {
	if !s.queued {
		if text := s.take(); len(text) > 0 {
			_, s.err = s.out.Write(text)
		}
		return
	}
	select {
	case s.due <- struct{}{}:
	default: // it is said already
	}
}

// take returns what is to be written. mu must be held.
func (s *screen) take() []byte {
	s.count()
	if len(s.lines) == 0 && !s.redraw {
		return nil
	}
	text := s.lines
	if s.drawn {
		text = append([]byte("\r\x1b[K"), text...)
	}
	if s.live {
		text = append(text, s.fit(s.last)...)
	}
	s.lines, s.redraw, s.drawn = nil, false, s.last != ""
	return text
}

// count adds a line that says how many weren't shown. mu must be held.
func (s *screen) count() {
	if s.lost == 0 {
		return
	}
	line, err := s.formatter.Format(&logrus.Entry{
		Time: time.Now(), Level: logrus.WarnLevel, Message: fmt.Sprintf("%d lines weren't shown here, as nothing was taken: kubeshore logs", s.lost),
	})
	if err == nil {
		s.lines = append(s.lines, line...)
	}
	s.lost = 0
}

// fit returns as much of the last line as there is room for, with the ^C that a terminal
// shows behind it.
func (s *screen) fit(text string) string {
	if room := s.width() - len("^C "); utf8.RuneCountInString(text) > room {
		text = string([]rune(text)[:max(room-1, 0)]) + "…"
	}
	return s.coloured(text, "1")
}

// coloured has a terminal show a text by a code of ECMA-48 (SGR).
func (s *screen) coloured(text, code string) string {
	if !s.colours || code == "" || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// during calls do, while what is written is queued. What do fails by is said there. What
// waits in the end has a moment; then it, and who writes it, are left to the end of the
// process. It must be called once.
func (s *screen) during(do func() error) error {
	s.mu.Lock()
	s.queued = true
	s.mu.Unlock()
	written := make(chan struct{})
	go func() {
		defer close(written)
		s.run()
	}()
	err := do()
	if err != nil && !errors.As(err, new(usageError)) && !errors.As(err, new(exitStatus)) {
		sayFault(s, err)
		err = exitStatus(exitFault)
	}
	s.close("")
	select {
	case <-written:
	case <-time.After(lastWords):
	}
	return err
}

// run writes what is queued, until there is nothing more to come.
func (s *screen) run() {
	for {
		s.mu.Lock()
		text, over := s.take(), s.over
		s.mu.Unlock()
		switch {
		case len(text) > 0:
			_, err := s.out.Write(text)
			s.mu.Lock()
			s.err = err
			broken := s.broken
			s.mu.Unlock()
			if broken != nil && errors.Is(err, syscall.EPIPE) {
				broken()
			}
		case over:
			if s.ended != nil {
				s.ended()
			}
			return
		default:
			<-s.due
		}
	}
}
