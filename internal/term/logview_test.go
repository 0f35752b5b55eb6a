package term

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/internal/logevent"
	"github.com/kubeshore/kubeshore/internal/term/termtest"
	"github.com/kubeshore/kubeshore/internal/wake"
)

// rows is the height of the terminal in these tests.
const rows = 30

// newView returns a log in a view, and a function that returns the screen without
// the lines' times.
func newView(t *testing.T, width int) (*logrus.Logger, *LogView, func() string) {
	t.Helper()
	grid := termtest.NewGrid(t, width)
	v := &LogView{out: &AsyncWriter{out: termtest.Raw{Grid: grid}, live: true, size: func() (int, int) { return width, rows }}}
	log := logrus.New()
	log.SetOutput(io.Discard)
	log.AddHook(v)
	times := regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d `)
	return log, v, func() string { return times.ReplaceAllString(grid.String(), "") }
}

// Lines of one kind are counted after those that fit on the screen. Lines with problems,
// and other warnings, are always shown.
func TestViewCountsLongRuns(t *testing.T) {
	const maxInRow = rows - reservedRows
	log, v, shown := newView(t, 80)
	about := func(kind logevent.Kind) *logrus.Entry { return logevent.With(logrus.NewEntry(log), kind) }
	for range maxInRow + 5 {
		about(logevent.Added).Info("+ web.shop  127.64.0.1:80")
	}
	about(logevent.Added).Warn("+ db.data; port 80: in use")
	for range maxInRow + 7 {
		about(logevent.Removed).Info("- web.shop")
	}
	v.SetStatus("the status line")
	for range maxInRow + 9 {
		about(logevent.Added).Warn("+ db.data; port 80: in use")
		about(logevent.Added).Info("+ web.shop")
	}
	for range maxInRow + 2 {
		log.Warn("can't list services")
	}
	log.WithError(errors.New("why")).Error("failed")
	want := strings.Repeat("+ web.shop  127.64.0.1:80\n", maxInRow) + "+ db.data; port 80: in use\n+ 5 more: kubeshore ps\n" +
		strings.Repeat("- web.shop\n", maxInRow) + "- 7 more: kubeshore ps\n" +
		strings.Repeat("+ db.data; port 80: in use\n+ web.shop\n", maxInRow) + strings.Repeat("+ db.data; port 80: in use\n", 9) + "+ 9 more: kubeshore ps\n" +
		strings.Repeat("can't list services\n", maxInRow+2) + "failed error=why\nthe status line\n"
	if got := shown(); got != want {
		t.Errorf("screen: got\n%s\nwant\n%s", got, want)
	}
}

// In a small terminal, or one whose height is unknown, a few lines are shown.
func TestViewInSmallTerminal(t *testing.T) {
	log, v, shown := newView(t, 80)
	v.out.size = func() (int, int) { return 80, 3 }
	for range minInRow + 1 {
		logevent.With(logrus.NewEntry(log), logevent.Added).Info("+ web.shop")
	}
	v.SetStatus("")
	if got, want := strings.TrimSpace(shown()), strings.Repeat("+ web.shop\n", minInRow)+"+ 1 more: kubeshore ps"; got != want {
		t.Errorf("screen: got\n%s\nwant\n%s", got, want)
	}
}

// The view of the process that started a daemon counts its lines, too.
func TestReplayKeepsKind(t *testing.T) {
	var line bytes.Buffer
	log := logrus.New()
	log.SetOutput(&line)
	log.SetFormatter(NewReplayFormatter())
	logevent.With(logrus.NewEntry(log), logevent.Removed).Info("- web.shop")
	_, v, shown := newView(t, 80)
	for range rows - reservedRows + 2 {
		v.Replay(line.Bytes())
	}
	v.SetStatus("")
	if got, want := shown(), strings.Repeat("- web.shop\n", rows-reservedRows)+"- 2 more: kubeshore ps\n"; got != want {
		t.Errorf("screen: got\n%s\nwant\n%s", got, want)
	}
}

// The status line takes one line, however narrow the terminal is.
func TestStatusLineFits(t *testing.T) {
	for _, width := range []int{1, 2, 10, 60, 80, 200} {
		_, v, shown := newView(t, width)
		v.SetStatus(strings.Repeat("ä", 100))
		if lines := strings.Split(shown(), "\n"); len(lines) > 2 || len([]rune(lines[0])) >= width && width > 1 {
			t.Errorf("%d columns: got %q", width, lines)
		}
	}
}

func TestWrapBreaksBetweenWords(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  string
	}{
		{"+ web.shop  127.64.0.1:80  ready", 40, "+ web.shop  127.64.0.1:80  ready"},
		{"namespaces shop, data, many; short names", 20, "namespaces shop,\n  data, many; short\n  names"},
		{"a-word-that-is-longer-than-a-line and more", 20, "a-word-that-is-longer-than-a-line\n  and more"},
		{"the width is unknown", -9, "the width is unknown"},
	} {
		if got := Wrap(c.text, c.width, 2); got != c.want {
			t.Errorf("%q in %d columns: got %q, want %q", c.text, c.width, got, c.want)
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[uint64]string{0: "0B", 999: "999B", 1000: "1.0kB", 9949: "9.9kB", 9999: "10kB", 999_499: "999kB", 999_999: "1.0MB", 1_500_000_000: "1.5GB", 2_000_000_000_000_000_000: "2000PB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d): got %s, want %s", n, got, want)
		}
	}
}

// Nothing in an entry, a status line or a daemon's output reaches the terminal as a
// control character.
func TestNoControlCharactersOfOthers(t *testing.T) {
	const hostile = "a\x1b]0;title\x07b\u009b31mc\u202ed\r\ne\x7f"
	var out bytes.Buffer
	v := &LogView{out: &AsyncWriter{out: &out, size: func() (int, int) { return 0, 0 }}} // without colors and a status line of its own
	log := logrus.New()
	log.SetOutput(io.Discard)
	log.AddHook(v)
	log.WithField("field", hostile).WithError(errors.New(hostile)).Warn(hostile)
	entry, err := NewReplayFormatter().Format(log.WithField("field", hostile))
	if err != nil {
		t.Fatal(err)
	}
	v.Replay(entry)
	v.Replay([]byte("raw " + strings.ReplaceAll(hostile, "\n", "") + "\n"))
	for _, format := range []Format{Text, JSON} {
		log := logrus.New()
		log.SetOutput(&out)
		log.SetFormatter(NewFormatter(format, ""))
		log.WithField("field", hostile).Warn(hostile)
	}
	if got := out.String(); strings.ContainsAny(got, "\x1b\x07\u009b\u202e\r\x7f") || strings.Count(got, "\n") != 5 {
		t.Errorf("got %q, want five lines without control characters", got)
	}
	status := AsyncWriter{out: io.Discard, live: true, running: true, queue: wake.NewTrigger()}
	(&LogView{out: &status}).SetStatus(hostile)
	if got := status.status; strings.ContainsAny(got, "\x1b\x07\u009b\u202e\r\n\x7f") {
		t.Errorf("status line: got %q", got)
	}
}
