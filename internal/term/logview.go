package term

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/internal/logevent"
	"github.com/kubeshore/kubeshore/internal/printable"
)

const (
	// minInRow is how many lines of one kind are shown in a row even in a small
	// terminal.
	minInRow = 5
	// reservedRows is how many rows are left for other lines.
	reservedRows = 8
	// RedrawInterval is how often a status line is redrawn when nothing changes.
	RedrawInterval = time.Second
)

// LogView shows a log in a terminal: a line for each entry, and a status line
// below. Lines about services that come in long runs, as at the start, are
// counted after the first ones, except those with problems. It is a logrus.Hook and a
// logrus.Formatter.
type LogView struct {
	out *AsyncWriter

	mu      sync.Mutex
	mark    byte      // of the last line: + ~ - or 0
	inRow   int       // lines with that mark in a row, without problems
	hidden  int       // those of them that were not shown
	lastHid time.Time // of the last hidden entry
}

// Levels implements logrus.Hook.
func (*LogView) Levels() []logrus.Level { return logrus.AllLevels }

// Fire shows an entry, or counts it.
func (v *LogView) Fire(entry *logrus.Entry) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	mark := markOf(entry)
	if mark == 0 || mark != v.mark {
		v.showHiddenLocked()
		v.mark, v.inRow = mark, 0
	}
	if mark != 0 && entry.Level >= logrus.InfoLevel {
		if v.inRow++; v.inRow > v.maxInRow() {
			v.hidden++
			v.lastHid = entry.Time
			return nil
		}
	}
	line, err := v.Format(entry)
	_, _ = v.out.Write(line)
	return err
}

// maxInRow returns how many lines of one kind are shown in a row: those that fit on the
// screen.
func (v *LogView) maxInRow() int { return max(v.out.Height()-reservedRows, minInRow) }

// markOf returns the mark of an entry about a service that was added, changed or
// removed. The mark of other entries is 0.
func markOf(entry *logrus.Entry) byte {
	kind, ok := logevent.Of(entry)
	if !ok {
		return 0
	}
	return kind.Mark()
}

// showHiddenLocked shows how many lines were not shown. mu must be held.
func (v *LogView) showHiddenLocked() {
	if v.hidden > 0 {
		fmt.Fprintf(v.out, "%s %c %d more: kubeshore ps\n", v.lastHid.Format(time.TimeOnly), v.mark, v.hidden)
	}
	v.hidden, v.inRow = 0, 0
}

// Format returns an entry as a line for a person, broken to the terminal's width.
func (v *LogView) Format(entry *logrus.Entry) ([]byte, error) {
	var b strings.Builder
	b.WriteString(entry.Message)
	for _, key := range slices.Sorted(maps.Keys(entry.Data)) {
		fmt.Fprintf(&b, " %s=%v", key, entry.Data[key])
	}
	indent := len(time.TimeOnly) + 1
	text := Wrap(printable.Text(strings.TrimRight(b.String(), "\n")), v.out.Width()-indent, indent)
	return []byte(entry.Time.Format(time.TimeOnly) + " " + v.out.colored(text, colorOf(entry.Level)) + "\n"), nil
}

func colorOf(level logrus.Level) string {
	switch level {
	case logrus.PanicLevel, logrus.FatalLevel, logrus.ErrorLevel:
		return Red
	case logrus.WarnLevel:
		return Yellow
	case logrus.DebugLevel, logrus.TraceLevel:
		return Dim
	case logrus.InfoLevel:
	}
	return ""
}

// minWrapWidth is the width below which lines are not broken.
const minWrapWidth = 20

// Wrap breaks text between words into lines of at most width columns, and
// indents all lines but the first. Words longer than a line are not broken; nor
// is anything if width is small or unknown.
func Wrap(text string, width, indent int) string {
	if width < minWrapWidth {
		return text
	}
	var b strings.Builder
	used := 0
	for i, word := range strings.Split(text, " ") {
		length := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case used+1+length > width:
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

// SetStatus sets the status line.
func (v *LogView) SetStatus(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.showHiddenLocked()
	v.out.SetStatus(printable.Text(text))
}

// StatusSource provides the text of a status line.
type StatusSource interface {
	// Changed returns a channel that is closed at the next change.
	Changed() <-chan struct{}
	// StatusLine returns the status in a line.
	StatusLine() string
}

// ShowStatus keeps the status line up to date until done is closed.
func (v *LogView) ShowStatus(done <-chan struct{}, source StatusSource) {
	tick := time.NewTicker(RedrawInterval)
	defer tick.Stop()
	defer v.SetStatus("")
	for {
		changed := source.Changed()
		v.SetStatus(source.StatusLine())
		select {
		case <-done:
			return
		case <-changed:
		case <-tick.C:
		}
	}
}

// statusLineMsg is a status line as a daemon sends it to the process that
// started it, between its log entries.
type statusLineMsg struct {
	StatusLine *string `json:"statusLine"` // nil in a log entry
}

// SendStatus writes a status line for [LogView.Replay].
func SendStatus(to io.Writer, text string) error {
	return json.NewEncoder(to).Encode(statusLineMsg{&text})
}

// eventField is the field of a JSON log entry with the entry's logevent.Kind.
const eventField = "kubeshore.event"

// replayFormatter adds the kind of an entry to its fields.
type replayFormatter struct{ logrus.Formatter }

// NewReplayFormatter returns a formatter for log entries that [LogView.Replay]
// shows.
func NewReplayFormatter() logrus.Formatter { return replayFormatter{NewFormatter(JSON, "")} }

// Format implements logrus.Formatter.
func (f replayFormatter) Format(entry *logrus.Entry) ([]byte, error) {
	if kind, ok := logevent.Of(entry); ok {
		withKind := entry.WithField(eventField, kind)
		withKind.Level, withKind.Message = entry.Level, entry.Message
		entry = withKind
	}
	return f.Formatter.Format(entry)
}

// Replay shows a line of a daemon's output: a log entry of [NewReplayFormatter], a
// status line of [SendStatus], or anything else as it is.
func (v *LogView) Replay(line []byte) {
	var msg struct {
		statusLineMsg

		Time    time.Time    `json:"time"`
		Level   logrus.Level `json:"level"`
		Message *string      `json:"msg"`

		Event logevent.Kind `json:"kubeshore.event"`
	}
	var data logrus.Fields
	err := errors.Join(json.Unmarshal(line, &msg), json.Unmarshal(line, &data))
	switch {
	case err == nil && msg.StatusLine != nil:
		v.SetStatus(*msg.StatusLine)
	case err == nil && msg.Message != nil:
		for _, name := range []string{logrus.FieldKeyTime, logrus.FieldKeyLevel, logrus.FieldKeyMsg, eventField} {
			delete(data, name)
		}
		entry := &logrus.Entry{Time: msg.Time, Data: data}
		if msg.Event.Mark() != 0 {
			entry = logevent.With(entry, msg.Event)
		}
		entry.Level, entry.Message = msg.Level, *msg.Message
		_ = v.Fire(entry)
	default:
		_, _ = v.out.Write(printable.Lines(line))
	}
}
