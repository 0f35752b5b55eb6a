package cli

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/sirupsen/logrus"
	"golang.org/x/term"

	"github.com/kubeshore/kubeshore/pkg/control"
)

const (
	// maxAlike is how many lines of one kind are shown in a row; the others are counted.
	maxAlike = 20
	// drawEvery is how often the last line is drawn anew, if nothing happens.
	drawEvery = time.Second
)

// view is what a person sees of a log in a terminal: a line for each thing that happens,
// and a last line that says what stands. It is a logrus.Hook.
type view struct {
	out     io.Writer
	width   func() int // of the terminal, in columns
	colours bool

	mu     sync.Mutex
	last   string // the last line; empty if there is none
	kind   byte   // of the line before: + ~ or -, or 0
	alike  int    // how many of it came in a row
	hidden int    // how many of these aren't shown
}

func newView(terminal *os.File) *view {
	return &view{out: terminal, colours: hasColours(terminal), width: func() int {
		width, _, err := term.GetSize(int(terminal.Fd()))
		if err != nil || width <= 0 {
			return 80
		}
		return width
	}}
}

// viewOf returns the view of a log, or nil if it has none.
func viewOf(log *logrus.Logger) *view {
	for _, hook := range log.Hooks[logrus.InfoLevel] {
		if v, ok := hook.(*view); ok {
			return v
		}
	}
	return nil
}

// Levels implements logrus.Hook.
func (*view) Levels() []logrus.Level { return logrus.AllLevels }

// Fire shows a line.
func (v *view) Fire(entry *logrus.Entry) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	kind := kindOf(entry)
	if kind == 0 || kind != v.kind {
		if err := v.count(); err != nil {
			return err
		}
		v.kind, v.alike = kind, 0
	}
	if v.alike++; kind != 0 && v.alike > maxAlike {
		v.hidden++
		return nil
	}
	return v.write(v.line(entry))
}

// kindOf returns the mark of a line that says that something came, changed or went.
func kindOf(entry *logrus.Entry) byte {
	if m := entry.Message; entry.Level == logrus.InfoLevel && len(m) > 2 && m[1] == ' ' && strings.IndexByte("+~-", m[0]) >= 0 {
		return m[0]
	}
	return 0
}

// count says how many lines weren't shown. mu must be held.
func (v *view) count() error {
	if v.hidden == 0 {
		return nil
	}
	text := fmt.Sprintf("%s %c %d more: kubeshore ps", time.Now().Format(time.TimeOnly), v.kind, v.hidden)
	v.hidden, v.alike = 0, 0
	return v.write(text)
}

// line returns an entry as a person reads it.
func (v *view) line(entry *logrus.Entry) string {
	var b strings.Builder
	b.WriteString(entry.Message)
	for _, key := range slices.Sorted(maps.Keys(entry.Data)) {
		fmt.Fprintf(&b, " %s=%v", key, entry.Data[key])
	}
	colour := ""
	switch entry.Level {
	case logrus.PanicLevel, logrus.FatalLevel, logrus.ErrorLevel:
		colour = "31"
	case logrus.WarnLevel:
		colour = "33"
	case logrus.DebugLevel, logrus.TraceLevel:
		colour = "2"
	case logrus.InfoLevel:
	}
	indent := len(time.TimeOnly) + 1
	return entry.Time.Format(time.TimeOnly) + " " + v.coloured(wrap(b.String(), v.width()-indent, indent), colour)
}

// leastRoom is how many columns must be left beside the time for lines to be broken.
const leastRoom = 20

// wrap breaks a text between words, so that it has at most room columns in each line,
// and indents all but the first line. A word that is longer stays whole, and so does a
// text where there is little room, or none that is known.
func wrap(text string, room, indent int) string {
	if room < leastRoom {
		return text
	}
	var b strings.Builder
	used := 0
	for i, word := range strings.Split(text, " ") {
		length := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case used+1+length > room:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			used = 0
		default:
			b.WriteByte(' ')
			used++
		}
		b.WriteString(word)
		used += length
	}
	return b.String()
}

func (v *view) coloured(text, colour string) string {
	if !v.colours || colour == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// write writes a line above the last one. mu must be held.
func (v *view) write(line string) error {
	_, err := io.WriteString(v.out, "\r\x1b[K"+strings.TrimRight(line, "\n")+"\n"+v.last)
	return err
}

// draw makes text the last line, as much of it as there is room for.
func (v *view) draw(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	_ = v.count() // the terminal may be gone: the log goes on elsewhere
	if room := v.width() - 1; utf8.RuneCountInString(text) > room {
		text = string([]rune(text)[:max(room-1, 0)]) + "…"
	}
	var b bytes.Buffer
	b.WriteString("\r\x1b[K")
	v.last = ""
	if text != "" {
		v.last = v.coloured(text, "1")
		b.WriteString(v.last)
	}
	_, _ = v.out.Write(b.Bytes())
}

// run keeps the last line true until finished is closed.
func (v *view) run(finished <-chan struct{}, daemon *running) {
	tick := time.NewTicker(drawEvery)
	defer tick.Stop()
	defer v.draw("")
	for {
		changed := daemon.Changed()
		v.draw(summary(daemon.Status()))
		select {
		case <-finished:
			return
		case <-changed:
		case <-tick.C:
		}
	}
}

// summary says in a line what stands, the most important first.
func summary(status control.Status) string {
	contexts := make([]string, 0, len(status.Contexts))
	for _, c := range status.Contexts {
		namespaces := strings.Join(c.Namespaces, ",")
		if len(c.Namespaces) == 0 {
			namespaces = "all namespaces"
		}
		contexts = append(contexts, c.Name+"/"+namespaces)
	}
	where := strings.Join(contexts, " ")
	switch {
	case status.Stopping:
		return "taking everything back · " + where
	case !status.Ready:
		return "starting · " + where
	}
	works, open := 0, 0
	var up, down uint64
	for _, s := range status.Services {
		if s.State.Works() {
			works++
		}
		open += s.Connections
		up, down = up+s.BytesUp, down+s.BytesDown
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d/%d services ready", works, len(status.Services))
	for _, c := range status.Contexts {
		if n := len(c.Problems); n > 0 {
			fmt.Fprintf(&b, " · %s: problems: %d", c.Name, n)
		}
	}
	fmt.Fprintf(&b, " · %d open · ↑%s ↓%s · %s", open, bytesText(up), bytesText(down), where)
	return b.String()
}
