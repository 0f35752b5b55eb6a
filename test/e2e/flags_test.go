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

// How long a connection waits for a pod.
func TestHoldLimitsWaitForPod(t *testing.T) {
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""))
	for hold, between := range map[string][2]time.Duration{
		"0":  {0, 1500 * time.Millisecond},
		"2s": {1500 * time.Millisecond, 8 * time.Second},
	} {
		t.Run(hold, func(t *testing.T) {
			d := up(t, "-n", ns, "--hold", hold)
			from := d.logLen()
			took, err := connectionEnd("web."+ns, 80, "x")
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the client gets %v, want a reset", err)
			}
			if t.Logf("it was reset after %v", took); took < between[0] || took > between[1] {
				t.Errorf("that is not between %v and %v", between[0], between[1])
			}
			eventually(t, "it says why", func() error {
				if said := strings.Join(d.linesSince(from), "\n"); !strings.Contains(said, "no pod is ready") {
					return fmt.Errorf("it says %q", said)
				}
				return nil
			})
		})
	}
}

// Which of its pods a service's connections go to.
func TestBalanceChoosesPod(t *testing.T) {
	ns := newNamespace(t)
	sticky := strings.NewReplacer("name: web, namespace", "name: sticky, namespace", "spec: {", "spec: {sessionAffinity: ClientIP, ")
	web := service(ns, "web", 80, "")
	apply(t, deployment(ns, "web", 3), web, sticky.Replace(web))
	waitForReadyPods(t, ns, "web", 3)
	waitForReadyPods(t, ns, "sticky", 3)
	for _, c := range []struct {
		args []string
		want map[string]int // pods that answer, by service
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
					t.Errorf("of the pods of %s these answered: %v; want %d", name, count, want)
				}
			}
		})
	}
}

// What a signal leaves open connections.
func TestDrainLetsOpenConnectionsFinish(t *testing.T) {
	ns, host := namespaceWithPeer(t)
	t.Run("none", func(t *testing.T) {
		d := up(t, "-n", ns, "--drain", "0")
		conn := openDownload(t, host, endless)
		begin := time.Now()
		if err := d.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, conn); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after %d more bytes it ends with %v, want a reset", n, err)
		}
		took := time.Since(begin)
		if t.Logf("the download was reset after %v", took); took > 5*time.Second {
			t.Error("that is late")
		}
		d.waitForExit(t)
	})
	t.Run("some", func(t *testing.T) {
		d := up(t, "-n", ns, "--drain", "30s")
		idle := openConn(t, host, peer.Echo, "")
		conn := openDownload(t, host, download)
		if err := d.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		eventually(t, "no more connections are taken", func() error {
			if _, err := resolve(host); err == nil {
				return errors.New("the name is still there")
			}
			return nil
		})
		if err := receive(&slowReader{t, conn}, 1, download); err != nil {
			t.Error(err)
		}
		if _, err := exchange(idle, "x", "x"); err != nil {
			t.Errorf("another one: %v", err)
		}
		_, _ = idle.Close(), conn.Close()
		begin := time.Now()
		d.waitForExit(t)
		took := time.Since(begin)
		if t.Logf("it ended %v after the last connection", took); took > 15*time.Second {
			t.Error("that is late")
		}
	})
	t.Run("not enough", func(t *testing.T) {
		d := up(t, "-n", ns, "--drain", "2s")
		idle := openConn(t, host, peer.Echo, "")
		if _, err := exchange(idle, "x", "x"); err != nil { // it is carried, and doesn't just wait to be accepted
			t.Fatal(err)
		}
		begin := time.Now()
		if err := d.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		_, err := io.Copy(io.Discard, idle)
		took := time.Since(begin)
		if !errors.Is(err, syscall.ECONNRESET) || took < 1500*time.Millisecond {
			t.Errorf("after %v it ends with %v, want a reset after 2s", took, err)
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
