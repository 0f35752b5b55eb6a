package cli

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/internal/controlserver/servertest"
	"github.com/kubeshore/kubeshore/pkg/control"
)

// wait reports the services that are not ready from the events, without another
// request. Only those that seem ready are checked.
func TestWaitFollowsTheEvents(t *testing.T) {
	var requests atomic.Int32
	dir := servertest.ServeHandler(t, func(w http.ResponseWriter, req *http.Request) {
		requests.Add(1)
		if req.URL.Path == "/v1/ready" {
			_, _ = io.WriteString(w, `{"ready": true}`)
			return
		}
		for _, event := range []string{
			`{"status": {"pid": 7, "synced": true, "services": [{"name": "db.data", "state": "waiting", "reason": "no pods"}, {"name": "web.shop", "service": "web", "state": "ready"}]}}`,
			`{"service": {"name": "db.data", "state": "ready"}, "more": true}`, // both are never ready at once
			`{"service": {"name": "web.shop", "service": "web", "state": "waiting", "reason": "no pod is ready"}}`,
		} {
			_, _ = io.WriteString(w, "data: "+event+"\n\n")
		}
		_ = http.NewResponseController(w).Flush()
		<-req.Context().Done()
	})
	client := control.NewClient(dir)
	_, err := waitFor(t.Context(), client, nil, 2*time.Second)
	if want := "not ready after 2s: web.shop: no pod is ready"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("got %d requests, want 1", n)
	}
	if _, err := waitFor(t.Context(), client, []string{"db.data"}, time.Minute); err != nil {
		t.Errorf("for a service that is ready: %v", err)
	}
}

// deniedDaemon denies connections to a service that seemed ready, once it is asked
// for a check.
type deniedDaemon struct {
	*servertest.Daemon
	checks atomic.Int32
	until  int32 // the number of denied checks
}

func (d *deniedDaemon) Ready(ctx context.Context, names []string) control.Readiness {
	state, denied := control.Failed, true
	if d.checks.Add(1) > d.until {
		state, denied = control.Ready, false
	}
	d.Set(control.Status{
		Overview: control.Overview{PID: 7, Synced: true},
		Services: []control.Service{{Name: "web.shop", Names: []string{"web.shop"}, State: state, Denied: denied, Reason: "no forwarding into production"}},
	})
	return d.Daemon.Ready(ctx, names)
}

// wait never succeeds before a failure is known, and ends before its timeout once
// the cluster keeps denying connections.
func TestWaitChecksServicesThatSeemReady(t *testing.T) {
	ready := control.Status{
		Overview: control.Overview{PID: 7, Synced: true},
		Services: []control.Service{{Name: "web.shop", Names: []string{"web.shop"}, State: control.Ready}},
	}
	for name, c := range map[string]struct {
		until int32
		want  string
	}{
		"a policy":                  {1000, "not ready: web.shop: no forwarding into production"},
		"a permission takes effect": {1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := &deniedDaemon{Daemon: servertest.NewDaemon(ready), until: c.until}
			client, _ := servertest.Serve(t, d)
			text := ""
			if _, err := waitFor(t.Context(), client, []string{"web.shop"}, time.Minute); err != nil {
				text = err.Error()
			}
			if text != c.want {
				t.Errorf("got %q, want %q", text, c.want)
			}
		})
	}
}

func TestWaitForADaemonThatDoesNotRespond(t *testing.T) {
	silent := servertest.ServeHandler(t, func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() })
	if _, err := waitFor(t.Context(), control.NewClient(silent), nil, 50*time.Millisecond); err == nil || !strings.Contains(err.Error(), "running but not responding") {
		t.Errorf("silent daemon: got %v", err)
	}
	if _, err := waitFor(t.Context(), control.NewClient(t.TempDir()), nil, time.Minute); !errors.Is(err, control.ErrNotRunning) {
		t.Errorf("no daemon: got %v, want %v", err, control.ErrNotRunning)
	}
}

// A zombie counts as exited.
func TestHasExited(t *testing.T) {
	if hasExited(t.Context(), os.Getpid()) {
		t.Error("this process: got true, want false")
	}
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no zombies")
	}
	child := exec.Command("sleep", "0")
	if err := child.Start(); err != nil {
		t.Skip(err)
	}
	for deadline := time.Now().Add(20 * time.Second); !hasExited(t.Context(), child.Process.Pid); {
		if time.Now().After(deadline) {
			t.Fatal("the child process counts as running after 20s")
		}
		<-time.After(time.Millisecond)
	}
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
}

// The path of the hosts file doesn't depend on a process's working directory.
func TestHostsFileIsAbsolute(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	f := newUpFlags()
	f.daemon.Machine.HostsFile = "hosts"
	if err := f.parse(newUp(Streams{Out: io.Discard, Err: io.Discard}).Flags()); err != nil {
		t.Fatal(err)
	}
	if got, want := f.daemon.Machine.HostsFile, dir+string(os.PathSeparator)+"hosts"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
