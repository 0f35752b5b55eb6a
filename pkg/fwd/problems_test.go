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

// logged has the engine's log kept, but for what is for -v alone.
func logged(e *fwd.Engine) *test.Hook {
	log, lines := test.NewNullLogger()
	log.SetLevel(logrus.InfoLevel)
	e.Log = log
	return lines
}

// with counts the lines that contain a text.
func with(lines *test.Hook, text string) int {
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

const closed = "port 80: nothing listens on port 8080 of pod ns/a; if its process listens on the pod's address only, " +
	"it can't be reached: let it listen on 0.0.0.0 or 127.0.0.1"

// What keeps connections from a process is in the Status and, once, in the log,
// however many they are; it is gone with the first that works.
func TestProblemComesOnceAndGoes(t *testing.T) {
	var up atomic.Bool
	var lines *test.Hook
	inBubble(t, service("web", "a"), map[string]behaviour{"a": listening(&up, "a")}, func(e *fwd.Engine) { lines = logged(e) }, func(b *bubble) {
		for range 1000 {
			b.wantReset(0)
		}
		b.after(time.Second)
		if got := b.problems(); got != closed {
			t.Errorf("the problems are %q", got)
		}
		if n := with(lines, "nothing listens"); n != 1 {
			t.Errorf("the log says so %d times", n)
		}
		up.Store(true)
		b.wantAnswer("xa")
		b.after(time.Second)
		if got := b.problems(); got != "" {
			t.Errorf("after one has worked, the problems are %q", got)
		}
		if n := len(lines.AllEntries()); n != 4 { // it came, ready, the problem, without it
			t.Errorf("%d lines in the log", n)
		}
	})
}

// Pods that fail each in its own words aren't news each time.
func TestProblemOfManyPods(t *testing.T) {
	n := 0
	words := func(int) (func(*memory), error) {
		n++
		return nil, &fwd.UnreachedError{Why: fwd.PortClosed, Err: fmt.Errorf("from port %d", n)}
	}
	var lines *test.Hook
	inBubble(t, service("web", "a", "b"), map[string]behaviour{"a": words, "b": words}, func(e *fwd.Engine) { lines = logged(e) }, func(b *bubble) {
		for range 20 {
			b.wantReset(0)
			b.after(time.Second)
		}
		if n := with(lines, "nothing listens"); n != 1 {
			t.Errorf("the log says so %d times", n)
		}
		if !strings.Contains(b.problems(), "nothing listens") {
			t.Errorf("the problems are %q", b.problems())
		}
		b.set(service("web", "c"))
		if got := b.problems(); got != "" {
			t.Errorf("of pods that are no more, the problems say %q", got)
		}
	})
}

// What is denied is denied for all ports of the service, and said once.
func TestProblemOfRights(t *testing.T) {
	denied := func(int) (func(*memory), error) {
		return nil, &fwd.UnreachedError{Why: fwd.Denied, Err: errors.New("may not create pods/portforward in namespace ns of context c")}
	}
	svc := service("web", "a")
	svc.Ports = append(svc.Ports, plan.ServicePort{Name: "other", Protocol: "TCP", Number: 81})
	svc.Endpoints[0].Ports["other"] = 8081
	var lines *test.Hook
	inBubble(t, svc, map[string]behaviour{"a": denied}, func(e *fwd.Engine) { lines = logged(e) }, func(b *bubble) {
		for port := range 2 {
			client := b.connectTo(port)
			if _, _, err := b.hear(client, "x"); err == nil {
				t.Error("it is answered")
			}
			b.after(time.Second)
		}
		if got := b.problems(); got != "may not create pods/portforward in namespace ns of context c" {
			t.Errorf("the problems are %q", got)
		}
		if n := with(lines, "may not create"); n != 1 {
			t.Errorf("the log says so %d times", n)
		}
	})
}

// Faults that are no process's: a server that is no API server, say.
func TestProblemOfADial(t *testing.T) {
	html := func(int) (func(*memory), error) {
		return nil, errors.New("the API server answers with\n<html>")
	}
	inBubble(t, service("web", "a"), map[string]behaviour{"a": html}, nil, func(b *bubble) {
		b.wantReset(0)
		b.after(time.Second)
		if got := b.problems(); got != "port 80: pod ns/a: the API server answers with <html>" {
			t.Errorf("the problems are %q", got)
		}
	})
}

// A host that no connection gets through to, as far as is known, is said to be barred;
// not one some of whose pods, or ports, work.
func TestBarred(t *testing.T) {
	var up atomic.Bool
	html := func(int) (func(*memory), error) { return nil, errors.New("<html>") }
	twoPorts := service("web", "a")
	twoPorts.Ports = append(twoPorts.Ports, plan.ServicePort{Name: "other", Protocol: "TCP", Number: 81})
	twoPorts.Endpoints[0].Ports["other"] = 8081
	headless := service("web", "a") // answers on 80 and on 8080, and both lead there
	headless.Headless = true
	again := service("web", "a")
	again.Endpoints = slices.Clone(again.Endpoints)
	again.Endpoints[0].Ready = false
	barred := func(b *bubble, what string, want bool) {
		b.Helper()
		b.after(time.Second)
		if web := b.engine.Status().Hosts[0]; web.Barred != want {
			b.Errorf("%s: that it is barred is %v; problems %q", what, web.Barred, web.Problems)
		}
	}
	fail := func(b *bubble, port int) {
		b.Helper()
		if _, _, err := b.hear(b.connectTo(port), "x"); err == nil {
			b.Error("it is answered")
		}
	}
	for name, c := range map[string]struct {
		svc  plan.Service
		pods map[string]behaviour
		test func(b *bubble)
	}{
		"one pod": {service("web", "a"), map[string]behaviour{"a": listening(&up, "a")}, func(b *bubble) {
			barred(b, "at first", false)
			fail(b, 0)
			barred(b, "it refuses", true)
			b.set(service("web", "a", "b"))
			barred(b, "another pod comes", false)
			b.set(service("web", "a"))
			barred(b, "and goes", true)
			up.Store(true)
			b.wantAnswer("xa")
			barred(b, "it answers", false)
		}},
		"a pod becomes ready anew": {service("web", "a"), map[string]behaviour{"a": refuses(fwd.PortClosed)}, func(b *bubble) {
			fail(b, 0)
			barred(b, "it refuses", true)
			b.set(again)
			b.set(service("web", "a"))
			barred(b, "nobody knows", false)
			if got := b.problems(); got != "" {
				b.Errorf("the problems are %q", got)
			}
		}},
		"one pod of two": {service("web", "a", "b"), map[string]behaviour{"a": html, "b": speaks("b")}, func(b *bubble) {
			fail(b, 0)
			barred(b, "a fails", false)
			b.wantAnswer("b")
			barred(b, "b works", false)
		}},
		"both pods of two": {service("web", "a", "b"), map[string]behaviour{"a": html, "b": html}, func(b *bubble) {
			fail(b, 0)
			barred(b, "a fails", false)
			fail(b, 0)
			barred(b, "b fails", true)
		}},
		"both pods at once": {service("web", "a", "b"), map[string]behaviour{"a": refuses(fwd.PortClosed), "b": fails(fwd.PodGone)}, func(b *bubble) {
			fail(b, 0)
			barred(b, "they fail", true)
		}},
		"one port of two": {twoPorts, map[string]behaviour{"a": refuses(fwd.PortClosed)}, func(b *bubble) {
			fail(b, 0)
			barred(b, "80 fails", false)
			fail(b, 1)
			barred(b, "81 fails too", true)
		}},
		"denied, of two ports": {twoPorts, map[string]behaviour{"a": fails(fwd.Denied)}, func(b *bubble) {
			fail(b, 0)
			barred(b, "80 fails", true)
			b.fleet.become("a", speaks("a"))
			if _, _, err := b.hear(b.connectTo(1), "x"); err != nil {
				b.Error(err)
			}
			barred(b, "81 works", false)
			if got := b.problems(); got != "" {
				b.Errorf("the problems are %q", got)
			}
		}},
		"headless": {headless, map[string]behaviour{"a": refuses(fwd.PortClosed)}, func(b *bubble) {
			fail(b, 0)
			barred(b, "80 fails", true)
		}},
	} {
		t.Run(name, func(t *testing.T) { inBubble(t, c.svc, c.pods, nil, c.test) })
	}
}

// What is no host's fault is logged now and then, and is no problem of it.
func TestProblemOfTheCluster(t *testing.T) {
	for name, c := range map[string]struct {
		svc  plan.Service
		pod  behaviour
		line string
	}{
		"it is away":   {service("web", "a"), fails(fwd.ClusterAway), "unreached"},
		"no pod":       {service("web"), nil, "no pod is ready"},
		"it broke off": {service("web", "a"), answers(func(pod *memory) { pod.breakOff(errors.New("it broke")) }), "it broke"},
	} {
		t.Run(name, func(t *testing.T) {
			var lines *test.Hook
			prepare := func(e *fwd.Engine) {
				lines = logged(e)
				e.Hold = 0
			}
			inBubble(t, c.svc, map[string]behaviour{"a": c.pod}, prepare, func(b *bubble) {
				for range 1000 {
					b.wantReset(0)
				}
				b.after(time.Second)
				if got := b.problems(); got != "" {
					t.Errorf("the problems are %q", got)
				}
				if n := with(lines, c.line); n != 1 {
					t.Errorf("the log says so %d times", n)
				}
				b.after(time.Hour)
				b.wantReset(0)
				b.after(time.Second)
				if n := with(lines, c.line); n != 2 {
					t.Errorf("an hour later the log has said so %d times", n)
				}
			})
		})
	}
}
