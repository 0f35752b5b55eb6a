package cli

import (
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus/hooks/test"

	"github.com/kubeshore/kubeshore/internal/controlserver"
	"github.com/kubeshore/kubeshore/pkg/control"
	"github.com/kubeshore/kubeshore/pkg/tunnel"
)

// listenAlone listens in a folder of its own.
func listenAlone(t *testing.T) (l *controlserver.Socket, folder string) {
	t.Helper()
	folder, err := os.MkdirTemp("", "cli") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	if l, err = controlserver.Listen(t.Context(), folder); err != nil {
		t.Fatal(err)
	}
	return l, folder
}

// listenIn listens in a folder of its own, and serves that until the test is over.
func listenIn(t *testing.T, handler http.HandlerFunc) (folder string) {
	t.Helper()
	l, folder := listenAlone(t)
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return folder
}

// Who starts a second one hears what the first one does, and what to do.
func TestAlready(t *testing.T) {
	for want, answer := range map[string]string{
		"; end it with kubeshore down, or give it more with kubeshore add": `{"pid": 7}`,
		"; it is just ending":                     `{"pid": 7, "stopping": true}`,
		"is of another version (v9): end it with": `{"services": "none"}`,
	} {
		folder := listenIn(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(control.VersionHeader, "v9")
			_, _ = io.WriteString(w, answer)
		})
		if err := already(t.Context(), []string{folder}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("it says %v, want %s", err, want)
		}
	}
	if err := already(t.Context(), []string{t.TempDir()}); err != nil {
		t.Error(err)
	}
}

// It can be asked, and told to end, before there is what changes the machine.
func TestRunningEarly(t *testing.T) {
	w, _ := inProject(t, selection{namespaces: []string{"shop"}}, "")
	log, _ := test.NewNullLogger()
	f, ended := defaults(), false
	r := &running{flags: &f, wanted: w, dialer: tunnel.New(w.find, 0), end: func() { ended = true }}
	r.engine = f.newEngine(r, nil, log)
	if status := r.Status(); status.Synced || status.Stopping || len(status.Contexts) != 1 || !slices.Equal(status.Contexts[0].Reading, []string{"shop"}) {
		t.Errorf("at first its status is %+v", status)
	}
	changed := r.Changed()
	r.Stop()
	<-changed
	if status := r.Status(); !status.Stopping || !ended {
		t.Errorf("then its status is %+v", status)
	}
}

func TestUnread(t *testing.T) {
	for _, c := range []struct{ followed, read, want []string }{
		{[]string{"a", "b"}, []string{"b", "c"}, []string{"a"}},
		{[]string{"a"}, []string{"a"}, nil},
		{nil, nil, []string{"*"}},
		{nil, []string{"a"}, []string{"*"}},
		{nil, []string{""}, nil},
	} {
		if got := unread(c.followed, c.read); !slices.Equal(got, c.want) {
			t.Errorf("%q without %q: %q, want %q", c.followed, c.read, got, c.want)
		}
	}
}

// wait says what isn't ready by what it last heard, and asks nothing else.
func TestWait(t *testing.T) {
	var requests atomic.Int32
	folder := listenIn(t, func(w http.ResponseWriter, req *http.Request) {
		requests.Add(1)
		for _, event := range []string{
			`{"status": {"pid": 7, "synced": true, "services": [{"name": "db.data", "state": "waiting", "reason": "it has no pods"}, {"name": "web.shop", "service": "web", "state": "ready"}]}}`,
			`{"service": {"name": "db.data", "state": "ready"}, "more": true}`, // they were never ready both
			`{"service": {"name": "web.shop", "service": "web", "state": "waiting", "reason": "no pod is ready"}}`,
		} {
			_, _ = io.WriteString(w, "data: "+event+"\n\n")
		}
		_ = http.NewResponseController(w).Flush()
		<-req.Context().Done()
	})
	client := control.NewClient(folder)
	err := waitFor(t.Context(), client, nil, 2*time.Second)
	if err == nil || err.Error() != "not ready after 2s: web.shop: no pod is ready" {
		t.Error(err)
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("it makes %d requests", n)
	}
	if err := waitFor(t.Context(), client, []string{"db.data"}, time.Minute); err != nil {
		t.Error(err)
	}
	silent := listenIn(t, func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() })
	if err := waitFor(t.Context(), control.NewClient(silent), nil, 50*time.Millisecond); err == nil || !strings.Contains(err.Error(), "didn't answer by then") {
		t.Error(err)
	}
	if err := waitFor(t.Context(), control.NewClient(t.TempDir()), nil, time.Minute); !errors.Is(err, control.ErrNotRunning) {
		t.Error(err)
	}
}

// A process that nobody has waited for has ended too.
func TestHasEnded(t *testing.T) {
	if hasEnded(t.Context(), os.Getpid()) {
		t.Error("this one has")
	}
	if runtime.GOOS == "windows" {
		t.Skip("there are no zombies")
	}
	child := exec.Command("sleep", "0")
	if err := child.Start(); err != nil {
		t.Skip(err)
	}
	for deadline := time.Now().Add(20 * time.Second); !hasEnded(t.Context(), child.Process.Pid); {
		if time.Now().After(deadline) {
			t.Fatal("it doesn't end")
		}
		<-time.After(time.Millisecond)
	}
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
}
