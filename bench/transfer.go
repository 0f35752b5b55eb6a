package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kubeshore/kubeshore/test/peer"
)

const chunkSize = 256 << 10 // bytes that we read or write at once

// transfer moves the effort's bytes over some connections at once: MB/s, and
// the forwarder's CPU seconds per GB. One connection was made before, so that
// what is measured is the moving.
func transfer(connections int, move func(ctx context.Context, f forwarder, n int64) error) benchFunc {
	return func(ctx context.Context, f forwarder, e effort) []result {
		if err := move(ctx, f, 1); err != nil {
			return []result{{err: err}}
		}
		before, err := cpuTime(f.pid())
		if err != nil {
			return []result{{err: err}}
		}
		begin := time.Now()
		moving, ctx := errgroup.WithContext(ctx)
		for range connections {
			moving.Go(func() error { return move(ctx, f, e.bytes/int64(connections)) })
		}
		if err := moving.Wait(); err != nil {
			return []result{{err: err}}
		}
		took := time.Since(begin)
		after, err := cpuTime(f.pid())
		if err != nil {
			return []result{{err: err}}
		}
		n := float64(e.bytes)
		return measured(n/1e6/took.Seconds(), (after-before).Seconds()/(n/1e9))
	}
}

// receive gets n bytes from the pod.
func receive(ctx context.Context, f forwarder, n int64) error {
	conn, err := connect(ctx, f, peer.Source)
	if err != nil {
		return fmt.Errorf("bench: receive: %w", err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "%d\n", n); err != nil {
		return fmt.Errorf("bench: receive: %w", err)
	}
	buf := make([]byte, chunkSize)
	for n > 0 {
		got, err := conn.Read(buf[:min(n, chunkSize)])
		if n -= int64(got); n > 0 && err != nil {
			return fmt.Errorf("bench: receive: %d bytes missing: %w", n, err)
		}
	}
	return nil
}

// send gives n bytes to the pod, which says when it has them all.
func send(ctx context.Context, f forwarder, n int64) error {
	conn, err := connect(ctx, f, peer.Sink)
	if err != nil {
		return fmt.Errorf("bench: send: %w", err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "%d\n", n); err != nil {
		return fmt.Errorf("bench: send: %w", err)
	}
	buf := make([]byte, chunkSize)
	for n > 0 {
		sent, err := conn.Write(buf[:min(n, chunkSize)])
		if err != nil {
			return fmt.Errorf("bench: send: %w", err)
		}
		n -= int64(sent)
	}
	return expect(conn, "done\n")
}

// expect reads what must come next.
func expect(r io.Reader, want string) error {
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil {
		return fmt.Errorf("bench: read answer: %d of %d bytes: %w", n, len(want), err)
	}
	if !bytes.Equal(got, []byte(want)) {
		return fmt.Errorf("bench: read answer: %w: %q", errFormat, got)
	}
	return nil
}
