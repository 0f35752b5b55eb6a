package backoff

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestNextDoublesUpToMax(t *testing.T) {
	b := Backoff{Min: time.Second, Max: 5 * time.Second}
	for i, want := range []time.Duration{1, 2, 4, 5, 5} {
		if got := b.Next(); got != want*time.Second {
			t.Errorf("retry %d: got %v, want %v", i, got, want*time.Second)
		}
	}
	b.Reset()
	if got := b.Next(); got != time.Second {
		t.Errorf("after Reset: got %v, want %v", got, time.Second)
	}
}

func TestJitterStaysBelowItsBound(t *testing.T) {
	for range 1000 {
		if got := Jitter(time.Millisecond); got < 0 || got >= time.Millisecond {
			t.Fatalf("got %v, want less than %v", got, time.Millisecond)
		}
	}
	if got := Jitter(0); got != 0 {
		t.Errorf("Jitter(0): got %v, want 0", got)
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := Sleep(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("got %v after %v, want %v after 1s", err, time.Since(began), context.DeadlineExceeded)
		}
		if err := Sleep(t.Context(), time.Minute); err != nil || time.Since(began) != time.Minute+time.Second {
			t.Errorf("got %v after %v, want no error after 1m1s", err, time.Since(began))
		}
	})
}
