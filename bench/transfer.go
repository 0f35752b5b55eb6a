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

const chunkSize = 256 << 10 // bytes per read or write

// transfer measures the throughput of concurrent connections in MB/s, and the
// forwarder's CPU seconds per GB. It makes one connection before, so that the
// cost of the first connection isn't measured.
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

// receive downloads n bytes from the pod.
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

// send uploads n bytes to the pod and waits for its confirmation.
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

// expect reads from r and fails if the bytes are not want.
func expect(r io.Reader, want string) error {
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil {
		return fmt.Errorf("bench: read response: %d of %d bytes: %w", n, len(want), err)
	}
	if !bytes.Equal(got, []byte(want)) {
		return fmt.Errorf("bench: read response: %w: %q", errFormat, got)
	}
	return nil
}
