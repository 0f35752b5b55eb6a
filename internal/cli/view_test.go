package cli

import (
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/pkg/control"
	"github.com/kubeshore/kubeshore/pkg/kube"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// inView returns a log that a view shows, and what is seen, without times.
func inView(t *testing.T, width int) (*logrus.Logger, *view, func() string) {
	t.Helper()
	seen := newGrid(t, width)
	v := &view{screen: &screen{out: raw{seen}, live: true, width: func() int { return width }}}
	log := logrus.New()
	log.SetOutput(io.Discard)
	log.AddHook(v)
	times := regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d `)
	return log, v, func() string { return times.ReplaceAllString(seen.String(), "") }
}

// Many lines of a kind are counted, those with problems apart; other warnings always
// stand there.
func TestViewIsCalm(t *testing.T) {
	log, v, shown := inView(t, 80)
	for range maxAlike + 5 {
		log.Info("+ web.shop  127.64.0.1:80")
	}
	log.Warn("+ db.data; port 80: in use")
	for range maxAlike + 7 {
		log.Info("- web.shop")
	}
	v.draw("the last line")
	for range maxAlike + 9 {
		log.Warn("+ db.data; port 80: in use")
		log.Info("+ web.shop")
	}
	for range maxAlike + 2 {
		log.Warn("may not list services")
	}
	log.WithError(errors.New("why")).Error("wrong")
	want := strings.Repeat("+ web.shop  127.64.0.1:80\n", maxAlike) + "+ db.data; port 80: in use\n+ 5 more: kubeshore ps\n" +
		strings.Repeat("- web.shop\n", maxAlike) + "- 7 more: kubeshore ps\n" +
		strings.Repeat("+ db.data; port 80: in use\n+ web.shop\n", maxAlike) + "+ 18 more, 9 of them with problems: kubeshore ps\n" +
		strings.Repeat("may not list services\n", maxAlike+2) + "wrong error=why\nthe last line\n"
	if got := shown(); got != want {
		t.Errorf("it shows\n%s\nwant\n%s", got, want)
	}
}

// The last line is one line, however narrow the terminal is.
func TestViewFits(t *testing.T) {
	for _, width := range []int{1, 2, 10, 60, 80, 200} {
		_, v, shown := inView(t, width)
		v.draw(strings.Repeat("ä", 100))
		if lines := strings.Split(shown(), "\n"); len(lines) > 2 || len([]rune(lines[0])) >= width && width > 1 {
			t.Errorf("in %d columns it is %q", width, lines)
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
		Overview: control.Overview{Synced: true, Contexts: []control.Context{{Name: "dev", Namespaces: []string{"shop", "data"}}, {Name: "eu", Problems: []string{"it can't be reached"}}}},
		Services: []control.Service{
			{State: control.Ready, Connections: 2, BytesUp: 1200, BytesDown: 3_400_000},
			{State: control.Waiting},
			{State: control.Degraded, BytesDown: 45_600_000},
		},
	}
	if got, want := summary(status, ""), "2/3 services ready · eu: problems: 1 · 2 open · ↑1.2kB ↓49MB · dev/shop,data eu/all namespaces"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// While it starts, the last line says how far it is.
func TestProgress(t *testing.T) {
	follow := []kube.Follow{{Context: "dev", Namespaces: []string{"shop", "data"}}, {Context: "eu"}}
	services := []plan.Service{{ID: plan.ServiceID{Context: "dev", Namespace: "shop", Name: "a"}}}
	for _, c := range []struct {
		known plan.Snapshot
		want  string
	}{
		{plan.Snapshot{}, "reading dev, eu"},
		{plan.Snapshot{Clusters: []plan.Cluster{{Context: "dev", Read: []string{"shop"}}, {Context: "eu"}}, Services: services}, "services found: 1, reading dev, eu"},
		{plan.Snapshot{Clusters: []plan.Cluster{{Context: "dev", Read: []string{"shop", "data"}}, {Context: "eu"}}, Services: services}, "services found: 1, reading eu"},
		{plan.Snapshot{Clusters: []plan.Cluster{{Context: "dev", Read: []string{"shop", "data"}}, {Context: "eu", Read: []string{""}}}, Services: services}, "services found: 1"},
	} {
		if got := progress(follow, c.known); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	var status control.Status
	status.Contexts = []control.Context{{Name: "dev", Namespaces: []string{"shop"}, Reading: []string{"shop"}}}
	if got, want := summary(status, "reading dev"), "starting · reading dev · dev/shop"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	status.Synced = true
	if got, want := summary(status, ""), "0/0 services ready · reading dev · 0 open · ↑0B ↓0B · dev/shop"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
