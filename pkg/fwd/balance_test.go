package fwd_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// named are pods that say their name and then stay until the client goes.
func named(names ...string) map[string]behaviour {
	pods := make(map[string]behaviour)
	for _, name := range names {
		pods[name] = answers(func(pod *memory) {
			_, _ = io.WriteString(pod, name)
			_, _ = io.Copy(io.Discard, pod)
		})
	}
	return pods
}

// open connects and returns the connection and its pod's name.
func (b *bubble) open() (client *memory, pod string) {
	b.Helper()
	client = b.connect()
	name := make([]byte, 1)
	if _, err := io.ReadFull(client, name); err != nil {
		b.Fatal(err)
	}
	return client, string(name)
}

// sequence opens connections, which stay open, and returns their pods.
func (b *bubble) sequence(n int) string {
	b.Helper()
	var pods strings.Builder
	for range n {
		_, pod := b.open()
		pods.WriteString(pod)
	}
	return pods.String()
}

func TestBalanceRoundRobin(t *testing.T) {
	inBubble(t, service("web", "a", "b", "c"), named("a", "b", "c"), nil, func(b *bubble) {
		if got := b.sequence(6); got != "abcabc" {
			t.Errorf("they go to %s", got)
		}
	})
}

func TestBalanceLeast(t *testing.T) {
	inBubble(t, service("web", "a", "b", "c"), named("a", "b", "c"), func(e *fwd.Engine) { e.Balance = fwd.Least }, func(b *bubble) {
		clients := make(map[string]*memory)
		for range 3 {
			client, pod := b.open()
			clients[pod] = client
		}
		if len(clients) != 3 {
			t.Fatalf("three connections go to %d pods", len(clients))
		}
		for range 3 {
			_ = clients["b"].Close()
			b.after(time.Second)
			client, pod := b.open()
			if pod != "b" {
				t.Errorf("one goes to %s, and b has the fewest", pod)
			}
			clients["b"] = client
		}
	})
}

func TestBalanceFirst(t *testing.T) {
	inBubble(t, service("web", "a", "b", "c"), named("a", "b", "c"), func(e *fwd.Engine) { e.Balance = fwd.First }, func(b *bubble) {
		if got := b.sequence(3); got != "aaa" {
			t.Errorf("they go to %s", got)
		}
		b.set(service("web", "b", "c"))
		if got := b.sequence(3); got != "bbb" {
			t.Errorf("without a they go to %s", got)
		}
	})
}

func TestBalanceAffinity(t *testing.T) {
	sticky := func(pods ...string) plan.Service {
		svc := service("web", pods...)
		svc.AffinityTimeout = time.Minute
		return svc
	}
	inBubble(t, sticky("a", "b", "c"), named("a", "b", "c"), nil, func(b *bubble) {
		if got := b.sequence(4); got != "aaaa" {
			t.Errorf("they go to %s", got)
		}
		b.after(50 * time.Second)
		if got := b.sequence(1); got != "a" {
			t.Errorf("within the time one goes to %s", got)
		}
		b.after(50 * time.Second)
		if got := b.sequence(1); got != "a" {
			t.Errorf("the time doesn't begin anew with a connection: one goes to %s", got)
		}
		b.after(61 * time.Second)
		if got := b.sequence(2); got != "bb" {
			t.Errorf("after the time they go to %s", got)
		}
		b.set(sticky("a", "c"))
		if got := b.sequence(2); got != "cc" && got != "aa" {
			t.Errorf("without b they go to %s", got)
		}
	})
}

func TestBalanceIsAFlag(t *testing.T) {
	for _, text := range []string{"round-robin", "least", "first"} {
		var b fwd.Balance
		if err := b.Set(text); err != nil || b.String() != text {
			t.Errorf("%s becomes %v, %v", text, b, err)
		}
	}
	b := fwd.Least
	if err := b.Set("random"); err == nil || b != fwd.Least || !strings.Contains(err.Error(), b.Type()[:11]) {
		t.Errorf("%v, %v", b, err)
	}
}
