package fwd

import (
	"context"
	"testing"

	"github.com/kubeshore/kubeshore/pkg/plan"
)

// ApplyForTest returns a function that plans and applies a snapshot once, like
// the reconcile loop.
func ApplyForTest(tb testing.TB, e *Engine) func(plan.Snapshot) {
	e.table.store(routes{})
	return func(s plan.Snapshot) {
		if _, err := e.apply(context.Background(), plan.Plan(s, e.Options())); err != nil {
			tb.Fatal(err)
		}
	}
}
