package main

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// maxOpening is how many connections are opened at once.
const maxOpening = 32

// memoryUse is the forwarder's resident memory before any connection, and while
// many are open that each have had an answer and are idle, in MB.
func memoryUse(ctx context.Context, f forwarder, e effort) []result {
	if err := wait(ctx, e.settleDelay); err != nil {
		return []result{{err: err}}
	}
	before, err := residentMemory(f.pid())
	if err != nil {
		return []result{{err: err}}
	}
	conns := make([]*connection, e.idleConns)
	defer func() {
		for _, conn := range conns {
			if conn != nil {
				_ = conn.Close()
			}
		}
	}()
	opening, openCtx := errgroup.WithContext(ctx)
	opening.SetLimit(maxOpening)
	for i := range conns {
		opening.Go(func() (err error) {
			if openCtx.Err() != nil {
				return openCtx.Err()
			}
			// Its life is the measure's, not the opening's.
			if conns[i], err = connect(ctx, f, clientFirst.port); err != nil {
				return fmt.Errorf("bench: connect: %w", err)
			}
			_, err = clientFirst.do(conns[i])
			return err
		})
	}
	err = opening.Wait()
	if err == nil {
		err = wait(ctx, e.settleDelay)
	}
	if err != nil {
		return []result{{value: float64(before) / 1e6}, {err: err}}
	}
	after, err := residentMemory(f.pid())
	return []result{{value: float64(before) / 1e6}, {float64(after) / 1e6, err}}
}
