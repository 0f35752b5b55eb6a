//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/test/peer"
)

// --hold limits how long a connection waits for a pod.
func TestHoldLimitsWaitForPod(t *testing.T) {
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""))
	for _, c := range []struct {
		hold     string
		min, max time.Duration
		reason   string
	}{
		{"0", 0, 1500 * time.Millisecond, "connection reset: no pod is ready"},
		{"2s", 1500 * time.Millisecond, 8 * time.Second, "connection reset: no pod became ready within 2s (--hold)"},
	} {
		t.Run(c.hold, func(t *testing.T) {
			d := up(t, "-n", ns, "--hold", c.hold)
			from := d.logLen()
			took, err := connectionEnd("web."+ns, 80, "x")
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("got %v, want a reset", err)
			}
			if t.Logf("reset after %v", took); took < c.min || took > c.max {
				t.Errorf("reset after %v, want between %v and %v", took, c.min, c.max)
			}
			eventually(t, "the log has the reason", func() error {
				if lines := strings.Join(d.linesSince(from), "\n"); !strings.Contains(lines, c.reason) {
					return fmt.Errorf("got log %q", lines)
				}
				return nil
			})
		})
	}
}

// --balance sets which pods get the connections.
func TestBalanceChoosesPod(t *testing.T) {
	ns := newNamespace(t)
	sticky := strings.NewReplacer("name: web, namespace", "name: sticky, namespace", "spec: {", "spec: {sessionAffinity: ClientIP, ")
	web := service(ns, "web", 80, "")
	apply(t, deployment(ns, "web", 3), web, sticky.Replace(web))
	waitForReadyPods(t, ns, "web", 3)
	waitForReadyPods(t, ns, "sticky", 3)
	for _, c := range []struct {
		args []string
		want map[string]int // number of pods that answer, by service
	}{
		{nil, map[string]int{"web": 3, "sticky": 1}},
		{[]string{"--balance", "first"}, map[string]int{"web": 1, "sticky": 1}},
	} {
		t.Run(fmt.Sprint(c.args), func(t *testing.T) {
			up(t, append([]string{"-n", ns}, c.args...)...)
			for name, want := range c.want {
				count := make(map[string]int)
				for range 9 {
					count[mustGet(t, "http://"+name+"."+ns).Pod]++
				}
				if len(count) != want {
					t.Errorf("%s: got responses from pods %v, want %d pods", name, count, want)
				}
			}
		})
	}
}

// --drain is the grace period for open connections.
func TestDrainLetsOpenConnectionsFinish(t *testing.T) {
	ns, host := namespaceWithPeer(t)
	t.Run("disabled", func(t *testing.T) {
		d := up(t, "-n", ns, "--drain", "0")
		conn := openDownload(t, host, endless)
		begin := time.Now()
		if err := d.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, conn); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %d more bytes and %v, want a reset", n, err)
		}
		took := time.Since(begin)
		if t.Logf("download reset after %v", took); took > 5*time.Second {
			t.Errorf("download reset after %v, want 5s at most", took)
		}
		d.waitForExit(t)
	})
	t.Run("long enough", func(t *testing.T) {
		d := up(t, "-n", ns, "--drain", "30s")
		idle := openConn(t, host, peer.Echo, "")
		conn := openDownload(t, host, download)
		if err := d.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		eventually(t, "new connections are impossible", unresolvable(host))
		if err := receive(&slowReader{t, conn}, 1, download); err != nil {
			t.Error(err)
		}
		if _, err := exchange(idle, "x", "x"); err != nil {
			t.Errorf("other connection: %v", err)
		}
		_, _ = idle.Close(), conn.Close()
		begin := time.Now()
		d.waitForExit(t)
		took := time.Since(begin)
		if t.Logf("exited %v after the last connection", took); took > 15*time.Second {
			t.Errorf("exited %v after the last connection, want 15s at most", took)
		}
	})
	t.Run("too short", func(t *testing.T) {
		d := up(t, "-n", ns, "--drain", "2s")
		idle := openConn(t, host, peer.Echo, "")
		if _, err := exchange(idle, "x", "x"); err != nil { // make sure that it is accepted
			t.Fatal(err)
		}
		begin := time.Now()
		if err := d.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		_, err := io.Copy(io.Discard, idle)
		took := time.Since(begin)
		if !errors.Is(err, syscall.ECONNRESET) || took < 1500*time.Millisecond {
			t.Errorf("got %v after %v, want a reset after 2s", err, took)
		}
		d.waitForExit(t)
	})
}

// slowReader takes some seconds to read a download.
type slowReader struct {
	t    *testing.T
	from io.Reader
}

func (r *slowReader) Read(p []byte) (int, error) {
	r.t.Helper()
	pause(r.t, time.Millisecond)
	return r.from.Read(p[:min(len(p), 32<<10)])
}
