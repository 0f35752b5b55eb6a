package fwd

import (
	"context"
	"testing"
)

// ApplyForTest returns what plans and applies a snapshot once, as the reconcile
// loop does.
func ApplyForTest(tb testing.TB, e *Engine) func(Snapshot) {
	e.table.store(routes{})
	return func(s Snapshot) {
		if _, err := e.apply(context.Background(), Plan(s, e.Options())); err != nil {
			tb.Fatal(err)
		}
	}
}
