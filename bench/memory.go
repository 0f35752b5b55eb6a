package main

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/kubeshore/kubeshore/internal/backoff"
)

// maxOpening limits how many connections are opened at once.
const maxOpening = 32

// memoryUse measures the forwarder's resident memory in MB: before the first
// connection, and with many open idle connections that each had one exchange.
func memoryUse(ctx context.Context, f forwarder, e effort) []result {
	if err := backoff.Sleep(ctx, e.settleDelay); err != nil {
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
			// Not openCtx: the connection stays open for the rest of the benchmark.
			if conns[i], err = connect(ctx, f, clientFirst.port); err != nil {
				return fmt.Errorf("bench: connect: %w", err)
			}
			_, err = clientFirst.do(conns[i])
			return err
		})
	}
	if err := opening.Wait(); err != nil {
		return []result{{value: float64(before) / 1e6}, {err: err}}
	}
	if err := backoff.Sleep(ctx, e.settleDelay); err != nil {
		return []result{{value: float64(before) / 1e6}, {err: err}}
	}
	after, err := residentMemory(f.pid())
	return []result{{value: float64(before) / 1e6}, {float64(after) / 1e6, err}}
}
