package cli

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/pkg/control"
)

// inView returns a log that a view shows, and what is shown, without times.
func inView(width int) (*logrus.Logger, *view, func() string) {
	var shown bytes.Buffer
	v := &view{out: &shown, width: func() int { return width }}
	log := logrus.New()
	log.SetOutput(io.Discard)
	log.SetFormatter(&logrus.TextFormatter{})
	log.AddHook(v)
	return log, v, func() string {
		var b strings.Builder
		for line := range strings.Lines(shown.String()) {
			_, after, _ := strings.Cut(line, "\r\x1b[K")
			if len(after) > 9 && after[2] == ':' {
				after = after[9:]
			}
			b.WriteString(after)
		}
		return b.String()
	}
}

// Many lines of a kind are counted; what is wrong always stands there.
func TestViewIsCalm(t *testing.T) {
	log, v, shown := inView(80)
	for range maxAlike + 5 {
		log.Info("+ web.shop  127.64.0.1:80")
	}
	log.Warn("+ db.data; port 80: in use")
	for range maxAlike + 7 {
		log.Info("- web.shop")
	}
	v.draw("the last line")
	log.WithError(errors.New("why")).Error("wrong")
	want := strings.Repeat("+ web.shop  127.64.0.1:80\n", maxAlike) + "+ 5 more: kubeshore ps\n+ db.data; port 80: in use\n" +
		strings.Repeat("- web.shop\n", maxAlike) + "- 7 more: kubeshore ps\nthe last line"
	if got := shown(); !strings.HasPrefix(got, want) || !strings.Contains(got, "wrong error=why\n") {
		t.Errorf("it shows\n%s\nwant\n%s", got, want)
	}
}

// The last line is one line, however narrow the terminal is.
func TestViewFits(t *testing.T) {
	for _, width := range []int{1, 2, 10, 60, 80, 200} {
		_, v, _ := inView(width)
		v.draw(strings.Repeat("ä", 100))
		if n := len([]rune(v.last)); n >= width && width > 1 || n > 100 {
			t.Errorf("of %d columns it takes %d", width, n)
		}
	}
}

// A long line is broken between words.
func TestWrap(t *testing.T) {
	for _, c := range []struct {
		text string
		room int
		want string
	}{
		{"+ web.shop  127.64.0.1:80  ready", 40, "+ web.shop  127.64.0.1:80  ready"},
		{"namespaces shop, data, many; bare names", 20, "namespaces shop,\n  data, many; bare\n  names"},
		{"a-word-that-is-longer-than-a-line and more", 20, "a-word-that-is-longer-than-a-line\n  and more"},
		{"no room that is known for this", -9, "no room that is known for this"},
	} {
		if got := wrap(c.text, c.room, 2); got != c.want {
			t.Errorf("in %d columns %q is %q, want %q", c.room, c.text, got, c.want)
		}
	}
}

func TestSummary(t *testing.T) {
	status := control.Status{
		Overview: control.Overview{Ready: true, Contexts: []control.Context{{Name: "dev", Namespaces: []string{"shop", "data"}}, {Name: "eu", Problems: []string{"it can't be reached"}}}},
		Services: []control.Service{
			{State: control.Ready, Connections: 2, BytesUp: 1200, BytesDown: 3_400_000},
			{State: control.Waiting},
			{State: control.Degraded, BytesDown: 45_600_000},
		},
	}
	if got, want := summary(status), "2/3 services ready · eu: problems: 1 · 2 open · ↑1.2kB ↓49MB · dev/shop,data eu/all namespaces"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
