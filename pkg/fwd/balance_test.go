package fwd_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// namedPods returns pods that send their name and then stay until the client
// disconnects.
func namedPods(names ...string) map[string]behavior {
	pods := make(map[string]behavior)
	for _, name := range names {
		pods[name] = answers(func(pod *memConn) {
			_, _ = io.WriteString(pod, name)
			_, _ = io.Copy(io.Discard, pod)
		})
	}
	return pods
}

// open connects, and returns the connection and the name of its pod.
func (b *bubble) open() (client *memConn, pod string) {
	b.Helper()
	client = b.connect()
	name := make([]byte, 1)
	if _, err := io.ReadFull(client, name); err != nil {
		b.Fatal(err)
	}
	return client, string(name)
}

// openN opens n connections, which stay open, and returns the names of their pods.
func (b *bubble) openN(n int) string {
	b.Helper()
	var pods strings.Builder
	for range n {
		_, pod := b.open()
		pods.WriteString(pod)
	}
	return pods.String()
}

func TestBalanceRoundRobin(t *testing.T) {
	inBubble(t, service("web", "a", "b", "c"), namedPods("a", "b", "c"), nil, func(b *bubble) {
		if got, want := b.openN(6), "abcabc"; got != want {
			t.Errorf("connections go to %s, want %s", got, want)
		}
	})
}

func TestBalanceLeast(t *testing.T) {
	inBubble(t, service("web", "a", "b", "c"), namedPods("a", "b", "c"), func(e *fwd.Engine) { e.Balance = fwd.LeastConnections }, func(b *bubble) {
		clients := make(map[string]*memConn)
		for range 3 {
			client, pod := b.open()
			clients[pod] = client
		}
		if len(clients) != 3 {
			t.Fatalf("3 connections go to %d pods, want 3", len(clients))
		}
		for range 3 {
			_ = clients["b"].Close()
			b.sleep(time.Second)
			client, pod := b.open()
			if pod != "b" {
				t.Errorf("connection goes to %s, want b, which has the fewest", pod)
			}
			clients["b"] = client
		}
	})
}

func TestBalanceFirst(t *testing.T) {
	inBubble(t, service("web", "a", "b", "c"), namedPods("a", "b", "c"), func(e *fwd.Engine) { e.Balance = fwd.FirstByName }, func(b *bubble) {
		if got, want := b.openN(3), "aaa"; got != want {
			t.Errorf("connections go to %s, want %s", got, want)
		}
		b.set(service("web", "b", "c"))
		if got, want := b.openN(3), "bbb"; got != want {
			t.Errorf("without a, connections go to %s, want %s", got, want)
		}
	})
}

func TestBalanceAffinity(t *testing.T) {
	sticky := func(pods ...string) plan.Service {
		svc := service("web", pods...)
		svc.AffinityTimeout = time.Minute
		return svc
	}
	inBubble(t, sticky("a", "b", "c"), namedPods("a", "b", "c"), nil, func(b *bubble) {
		if got, want := b.openN(4), "aaaa"; got != want {
			t.Errorf("connections go to %s, want %s", got, want)
		}
		b.sleep(50 * time.Second)
		if got := b.openN(1); got != "a" {
			t.Errorf("before the timeout, the connection goes to %s, want a", got)
		}
		b.sleep(50 * time.Second)
		if got := b.openN(1); got != "a" {
			t.Errorf("a connection doesn't restart the timeout: the next one goes to %s, want a", got)
		}
		b.sleep(61 * time.Second)
		if got := b.openN(2); got != "bb" {
			t.Errorf("after the timeout, connections go to %s, want bb", got)
		}
		b.set(sticky("a", "c"))
		if got := b.openN(2); got != "cc" && got != "aa" {
			t.Errorf("without b, connections go to %s, want cc or aa", got)
		}
	})
}

func TestBalanceFlagValue(t *testing.T) {
	for _, text := range []string{"round-robin", "least", "first"} {
		var b fwd.Balance
		if err := b.Set(text); err != nil || b.String() != text {
			t.Errorf("Set(%q): got %v, %v", text, b, err)
		}
	}
	b := fwd.LeastConnections
	if err := b.Set("random"); err == nil || b != fwd.LeastConnections || !strings.Contains(err.Error(), b.Type()[:11]) {
		t.Errorf("Set(random): got %v, %v; want an error that lists the values", b, err)
	}
}
