package cleanup

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

type key struct{}

func TestRunAfterContextEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
	cancel()
	failure := errors.New("failure")
	err := Run(ctx, func(ctx context.Context) error {
		if err := ctx.Err(); err != nil {
			t.Errorf("the step's context has ended: %v", err)
		}
		if got := ctx.Value(key{}); got != "value" {
			t.Errorf("got value %v, want that of the parent context", got)
		}
		return failure
	})
	if !errors.Is(err, failure) {
		t.Errorf("got error %v, want the step's", err)
	}
}

func TestRunTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		err := Run(t.Context(), func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got error %v, want %v", err, context.DeadlineExceeded)
		}
		if got := time.Since(start); got != StepTimeout {
			t.Errorf("the step ended after %v, want %v", got, StepTimeout)
		}
	})
}
