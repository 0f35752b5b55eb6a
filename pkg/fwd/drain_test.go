package fwd_test

import (
	"errors"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/pkg/fwd"
)

// What is open when the engine is to stop may go on for as long as drain says.
func TestDrainTime(t *testing.T) {
	for _, drain := range []time.Duration{0, 3 * time.Second} {
		pods := map[string]behaviour{"a": echoes(), "b": answers(func(pod *memory) {
			_, _ = io.WriteString(pod, "b")
			<-time.After(2 * time.Second)
			_, _ = io.WriteString(pod, "!")
		})}
		inBubble(t, service("web", "a", "b"), pods, func(e *fwd.Engine) { e.Drain = drain }, func(b *bubble) {
			stays := b.connect() // a's
			_, _ = io.WriteString(stays, "x")
			_, _ = io.ReadFull(stays, make([]byte, 1))
			ends, _ := b.open()
			began, stopped := time.Now(), make(chan error, 1)
			go func() { stopped <- b.stop() }()
			if last, err := io.ReadAll(ends); drain > 0 && (string(last) != "!" || err != nil) {
				t.Errorf("with %v, what ends by itself says %q, %v", drain, last, err)
			}
			_ = ends.Close()
			if _, err := io.ReadAll(stays); !errors.Is(err, syscall.ECONNRESET) || time.Since(began) != drain {
				t.Errorf("%v after %v, want a reset after %v", err, time.Since(began), drain)
			}
			if err := <-stopped; err != nil {
				t.Error(err)
			}
		})
	}
}

// A connection that is held for a pod doesn't keep the engine from stopping.
func TestDrainWhileHeld(t *testing.T) {
	inBubble(t, service("web"), nil, func(e *fwd.Engine) { e.Hold, e.Drain = time.Hour, time.Second }, func(b *bubble) {
		client := b.connect()
		began := time.Now()
		if err := b.stop(); err != nil || time.Since(began) > time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if _, err := io.ReadAll(client); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%v, want a reset", err)
		}
	})
}
