// Package backoff computes how long to wait before a retry.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff doubles a delay with each retry, from Min up to Max. It is not safe
// for concurrent use.
type Backoff struct {
	Min, Max time.Duration

	current time.Duration
}

// Next returns the delay before the next retry: Min the first time, then twice
// the last one, at most Max.
func (b *Backoff) Next() time.Duration {
	b.current = min(max(2*b.current, b.Min), b.Max)
	return b.current
}

// Reset makes the next delay Min again.
func (b *Backoff) Reset() { b.current = 0 }

// Jitter returns a random duration from zero up to d ("full jitter"), so that
// clients that failed together don't retry together.
func Jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d) //nolint:gosec // not a secret
}

// Sleep waits for d, or until ctx ends, and returns ctx's error in that case.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
