// Package blocking calls functions that nothing can interrupt, such as reads of a
// pipe without a writer or of a network file system that hangs.
package blocking

import "context"

// Call returns the results of f, or ctx's cause if ctx ends first. f then continues
// in its goroutine, for as long as it blocks, and its results are dropped.
func Call[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type results struct {
		value T
		err   error
	}
	done := make(chan results, 1)
	go func() {
		value, err := f()
		done <- results{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}
