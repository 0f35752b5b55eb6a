package fwd_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"

	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// recordLog makes the engine log to the returned hook, at the default level.
func recordLog(e *fwd.Engine) *test.Hook {
	log, lines := test.NewNullLogger()
	log.SetLevel(logrus.InfoLevel)
	e.Log = log
	return lines
}

// countLines returns how many lines contain a text.
func countLines(lines *test.Hook, text string) int {
	n := 0
	for _, entry := range lines.AllEntries() {
		if strings.Contains(entry.Message, text) {
			n++
		}
	}
	return n
}

func (b *bubble) problems() string {
	return strings.Join(b.engine.Status().Hosts[0].Problems, "; ")
}

const closedPort = "port 80: nothing listens on port 8080 of pod ns/a; " +
	"a process that listens only on the pod's IP address isn't reachable, use 0.0.0.0 or 127.0.0.1"

// The reason of failed connections is in the Status and, once, in the log, however
// many there are. The first connection that succeeds resolves it.
func TestProblemIsLoggedOnceAndResolved(t *testing.T) {
	var up atomic.Bool
	var lines *test.Hook
	inBubble(t, service("web", "a"), map[string]behavior{"a": listening(&up, "a")}, func(e *fwd.Engine) { lines = recordLog(e) }, func(b *bubble) {
		for range 1000 {
			b.wantReset(0)
		}
		b.sleep(time.Second)
		if got := b.problems(); got != closedPort {
			t.Errorf("got problems %q, want %q", got, closedPort)
		}
		if n := countLines(lines, "nothing listens"); n != 1 {
			t.Errorf("logged %d times, want 1", n)
		}
		up.Store(true)
		b.wantAnswer("xa")
		b.sleep(time.Second)
		if got := b.problems(); got != "" {
			t.Errorf("after a success: got problems %q, want none", got)
		}
		if n := len(lines.AllEntries()); n != 3 { // added, changed with the problem, changed without it
			t.Errorf("got %d log lines, want 3", n)
		}
	})
}

// Pods that fail with different errors don't change the problem each time.
func TestProblemOfManyPodsIsStable(t *testing.T) {
	n := 0
	fail := func(int) (func(*memConn), error) {
		n++
		return nil, &fwd.UnreachedError{Reason: fwd.PortClosed, Err: fmt.Errorf("from port %d", n)}
	}
	var lines *test.Hook
	inBubble(t, service("web", "a", "b"), map[string]behavior{"a": fail, "b": fail}, func(e *fwd.Engine) { lines = recordLog(e) }, func(b *bubble) {
		for range 20 {
			b.wantReset(0)
			b.sleep(time.Second)
		}
		if n := countLines(lines, "nothing listens"); n != 1 {
			t.Errorf("logged %d times, want 1", n)
		}
		if !strings.Contains(b.problems(), "nothing listens") {
			t.Errorf("got problems %q, want one about a closed port", b.problems())
		}
		b.set(service("web", "c"))
		if got := b.problems(); got != "" {
			t.Errorf("got problems %q of removed pods, want none", got)
		}
	})
}

// Ports that fail for the same reason share a line of the Status.
func TestPortsWithOneProblemShareALine(t *testing.T) {
	closed := func(int) (func(*memConn), error) {
		return nil, &fwd.UnreachedError{Reason: fwd.PortClosed, Err: errors.New("refused")}
	}
	broken := func(int) (func(*memConn), error) { return nil, errors.New("no sandbox") }
	for name, c := range map[string]struct {
		pod  behavior
		want string
	}{
		"closed": {closed, "ports 80, 81: nothing listens on ports 8080, 8081 of pod ns/a; " +
			"a process that listens only on the pod's IP address isn't reachable, use 0.0.0.0 or 127.0.0.1"},
		"another error": {broken, "ports 80, 81: pod ns/a: no sandbox"},
	} {
		t.Run(name, func(t *testing.T) {
			svc := service("web", "a")
			svc.Ports = append(svc.Ports, plan.ServicePort{Name: "other", Protocol: "TCP", Number: 81})
			svc.Endpoints[0].Ports["other"] = 8081
			inBubble(t, svc, map[string]behavior{"a": c.pod}, nil, func(b *bubble) {
				for port := range 2 {
					if _, _, err := b.exchange(b.connectTo(port), "x"); err == nil {
						t.Error("got an answer, want an error")
					}
				}
				b.sleep(time.Second)
				if got := b.problems(); got != c.want {
					t.Errorf("got problems %q, want %q", got, c.want)
				}
			})
		})
	}
}

// A denied request concerns all ports of the service, and is logged once.
func TestProblemOfDeniedRequest(t *testing.T) {
	denied := func(int) (func(*memConn), error) {
		return nil, &fwd.UnreachedError{Reason: fwd.Denied, Err: errors.New("may not create pods/portforward in namespace ns of context c")}
	}
	svc := service("web", "a")
	svc.Ports = append(svc.Ports, plan.ServicePort{Name: "other", Protocol: "TCP", Number: 81})
	svc.Endpoints[0].Ports["other"] = 8081
	var lines *test.Hook
	inBubble(t, svc, map[string]behavior{"a": denied}, func(e *fwd.Engine) { lines = recordLog(e) }, func(b *bubble) {
		for port := range 2 {
			client := b.connectTo(port)
			if _, _, err := b.exchange(client, "x"); err == nil {
				t.Error("got an answer, want an error")
			}
			b.sleep(time.Second)
		}
		if got, want := b.problems(), "may not create pods/portforward in namespace ns of context c"; got != want {
			t.Errorf("got problems %q, want %q", got, want)
		}
		if n := countLines(lines, "may not create"); n != 1 {
			t.Errorf("logged %d times, want 1", n)
		}
	})
}

// An error of a dial, e.g. from a server that isn't an API server, is a problem.
func TestProblemOfDial(t *testing.T) {
	html := func(int) (func(*memConn), error) {
		return nil, errors.New("the API server answers with\n<html>")
	}
	inBubble(t, service("web", "a"), map[string]behavior{"a": html}, nil, func(b *bubble) {
		b.wantReset(0)
		b.sleep(time.Second)
		if got, want := b.problems(), "port 80: pod ns/a: the API server answers with <html>"; got != want {
			t.Errorf("got problems %q, want %q", got, want)
		}
	})
}

// A host is unreachable if the last connections to all its pods, on all its ports,
// failed.
func TestUnreachable(t *testing.T) {
	var up atomic.Bool
	html := func(int) (func(*memConn), error) { return nil, errors.New("<html>") }
	twoPorts := service("web", "a")
	twoPorts.Ports = append(twoPorts.Ports, plan.ServicePort{Name: "other", Protocol: "TCP", Number: 81})
	twoPorts.Endpoints[0].Ports["other"] = 8081
	headless := service("web", "a") // ports 80 and 8080 have the same target
	headless.Headless = true
	notReady := service("web", "a")
	notReady.Endpoints = slices.Clone(notReady.Endpoints)
	notReady.Endpoints[0].Ready = false
	wantUnreachable := func(b *bubble, when string, want bool) {
		b.Helper()
		b.sleep(time.Second)
		if web := b.engine.Status().Hosts[0]; unreachable(web) != want {
			b.Errorf("%s: got unreachable %t, want %t; problems %q", when, unreachable(web), want, web.Problems)
		}
	}
	fail := func(b *bubble, port int) {
		b.Helper()
		if _, _, err := b.exchange(b.connectTo(port), "x"); err == nil {
			b.Error("got an answer, want an error")
		}
	}
	for name, c := range map[string]struct {
		svc  plan.Service
		pods map[string]behavior
		test func(b *bubble)
	}{
		"one pod": {service("web", "a"), map[string]behavior{"a": listening(&up, "a")}, func(b *bubble) {
			wantUnreachable(b, "initially", false)
			fail(b, 0)
			wantUnreachable(b, "a refuses", true)
			b.set(service("web", "a", "b"))
			wantUnreachable(b, "b added", false)
			b.set(service("web", "a"))
			wantUnreachable(b, "b removed", true)
			up.Store(true)
			b.wantAnswer("xa")
			wantUnreachable(b, "a answers", false)
		}},
		"a pod becomes ready again": {service("web", "a"), map[string]behavior{"a": failsRead(fwd.PortClosed)}, func(b *bubble) {
			fail(b, 0)
			wantUnreachable(b, "a refuses", true)
			b.set(notReady)
			b.set(service("web", "a"))
			wantUnreachable(b, "a is ready again", false)
			if got := b.problems(); got != "" {
				b.Errorf("got problems %q, want none", got)
			}
		}},
		"one pod of two": {service("web", "a", "b"), map[string]behavior{"a": html, "b": writes("b")}, func(b *bubble) {
			fail(b, 0)
			wantUnreachable(b, "a fails", false)
			b.wantAnswer("b")
			wantUnreachable(b, "b works", false)
		}},
		"both pods of two": {service("web", "a", "b"), map[string]behavior{"a": html, "b": html}, func(b *bubble) {
			fail(b, 0)
			wantUnreachable(b, "a fails", false)
			fail(b, 0)
			wantUnreachable(b, "b fails", true)
		}},
		"both pods at once": {service("web", "a", "b"), map[string]behavior{"a": failsRead(fwd.PortClosed), "b": failsDial(fwd.PodGone)}, func(b *bubble) {
			fail(b, 0)
			wantUnreachable(b, "both fail", true)
		}},
		"one port of two": {twoPorts, map[string]behavior{"a": failsRead(fwd.PortClosed)}, func(b *bubble) {
			fail(b, 0)
			wantUnreachable(b, "80 fails", false)
			fail(b, 1)
			wantUnreachable(b, "81 fails, too", true)
		}},
		"denied, of two ports": {twoPorts, map[string]behavior{"a": failsDial(fwd.Denied)}, func(b *bubble) {
			fail(b, 0)
			wantUnreachable(b, "80 fails", true)
			b.fleet.setBehavior("a", writes("a"))
			if _, _, err := b.exchange(b.connectTo(1), "x"); err != nil {
				b.Error(err)
			}
			wantUnreachable(b, "81 works", false)
			if got := b.problems(); got != "" {
				b.Errorf("got problems %q, want none", got)
			}
		}},
		"headless": {headless, map[string]behavior{"a": failsRead(fwd.PortClosed)}, func(b *bubble) {
			fail(b, 0)
			wantUnreachable(b, "80 fails", true)
		}},
	} {
		t.Run(name, func(t *testing.T) { inBubble(t, c.svc, c.pods, nil, c.test) })
	}
}

// Failures that aren't a problem of the host are logged, at most once per interval.
func TestFailuresAreLoggedOncePerInterval(t *testing.T) {
	for name, c := range map[string]struct {
		svc  plan.Service
		pod  behavior
		line string
	}{
		"cluster unreachable": {service("web", "a"), failsDial(fwd.ClusterUnreachable), "unreached"},
		"no pod":              {service("web"), nil, "no pod is ready"},
		"connection lost":     {service("web", "a"), answers(func(pod *memConn) { pod.breakOff(errors.New("broken pipe")) }), "broken pipe"},
	} {
		t.Run(name, func(t *testing.T) {
			var lines *test.Hook
			prepare := func(e *fwd.Engine) {
				lines = recordLog(e)
				e.HoldTimeout = 0
			}
			inBubble(t, c.svc, map[string]behavior{"a": c.pod}, prepare, func(b *bubble) {
				for range 1000 {
					b.wantReset(0)
				}
				b.sleep(time.Second)
				if got := b.problems(); got != "" {
					t.Errorf("got problems %q, want none", got)
				}
				if n := countLines(lines, c.line); n != 1 {
					t.Errorf("logged %d times, want 1", n)
				}
				b.sleep(time.Hour)
				b.wantReset(0)
				b.sleep(time.Second)
				if n := countLines(lines, c.line); n != 2 {
					t.Errorf("an hour later: logged %d times, want 2", n)
				}
			})
		})
	}
}
