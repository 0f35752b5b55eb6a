// Package cleanup runs the steps that restore this machine when a program ends.
package cleanup

import (
	"context"
	"time"
)

// StepTimeout limits each step.
const StepTimeout = 10 * time.Second

// Run calls step with a context that has the values of ctx, but neither its
// cancellation nor its deadline: the step runs even if ctx has ended. Its own
// deadline is [StepTimeout] from now. Run returns the step's error.
func Run(ctx context.Context, step func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), StepTimeout)
	defer cancel()
	return step(ctx)
}
