package fwd_test

import (
	"errors"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/pkg/fwd"
)

// Connections that are open when the engine is stopped may continue for
// DrainTimeout.
func TestDrainTimeout(t *testing.T) {
	for _, drain := range []time.Duration{0, 3 * time.Second} {
		pods := map[string]behavior{"a": echoes(), "b": answers(func(pod *memConn) {
			_, _ = io.WriteString(pod, "b")
			<-time.After(2 * time.Second)
			_, _ = io.WriteString(pod, "!")
		})}
		inBubble(t, service("web", "a", "b"), pods, func(e *fwd.Engine) { e.DrainTimeout = drain }, func(b *bubble) {
			stays := b.connect() // a's
			_, _ = io.WriteString(stays, "x")
			_, _ = io.ReadFull(stays, make([]byte, 1))
			ends, _ := b.open()
			began, stopped := time.Now(), make(chan error, 1)
			go func() { stopped <- b.stop() }()
			if last, err := io.ReadAll(ends); drain > 0 && (string(last) != "!" || err != nil) {
				t.Errorf("drain %v: a connection that ends in time gets %q, %v; want \"!\"", drain, last, err)
			}
			_ = ends.Close()
			if _, err := io.ReadAll(stays); !errors.Is(err, syscall.ECONNRESET) || time.Since(began) != drain {
				t.Errorf("got %v after %v, want a reset after %v", err, time.Since(began), drain)
			}
			if err := <-stopped; err != nil {
				t.Error(err)
			}
		})
	}
}

// A held connection doesn't prevent the engine from stopping.
func TestDrainWithHeldConnection(t *testing.T) {
	inBubble(t, service("web"), nil, func(e *fwd.Engine) { e.HoldTimeout, e.DrainTimeout = time.Hour, time.Second }, func(b *bubble) {
		client := b.connect()
		began := time.Now()
		if err := b.stop(); err != nil || time.Since(began) > time.Second {
			t.Errorf("Run: got %v after %v, want nil within 1s", err, time.Since(began))
		}
		if _, err := io.ReadAll(client); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("client gets %v, want a reset", err)
		}
	})
}
