package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/kubeshore/kubeshore/internal/backoff"
	"github.com/kubeshore/kubeshore/test/peer"
)

// stallFunc opens a connection, makes it stall, and returns it.
type stallFunc func(ctx context.Context, f forwarder, e effort) (io.Closer, error)

// noStall opens no connection, for the undisturbed baseline.
func noStall(context.Context, forwarder, effort) (io.Closer, error) {
	return io.NopCloser(nil), nil
}

// stalledReader requests an endless download and reads none of it.
func stalledReader(ctx context.Context, f forwarder, e effort) (io.Closer, error) {
	conn, err := connect(ctx, f, peer.Source)
	if err != nil {
		return nil, fmt.Errorf("bench: stall: %w", err)
	}
	if _, err := fmt.Fprintf(conn, "%d\n", int64(math.MaxInt64)); err != nil {
		return nil, errors.Join(fmt.Errorf("bench: stall: %w", err), conn.Close())
	}
	if err := backoff.Sleep(ctx, e.settleDelay); err != nil {
		return nil, errors.Join(fmt.Errorf("bench: stall: %w", err), conn.Close())
	}
	return conn, nil
}

// stalledPod sends to a pod that does not read until the connection accepts no
// more bytes.
func stalledPod(ctx context.Context, f forwarder, e effort) (io.Closer, error) {
	conn, err := connect(ctx, f, peer.Stall)
	if err != nil {
		return nil, fmt.Errorf("bench: stall: %w", err)
	}
	if err := conn.fillUntilStalled(ctx, e.settleDelay, 256<<20); err != nil {
		return nil, errors.Join(fmt.Errorf("bench: stall: %w", err), conn.Close())
	}
	return conn, nil
}

// latencyDuringStall measures exchanges while another connection is stalled:
// on new connections, and on connections opened before the stall. Each uses
// two ports, one of them the port of the stalled reader. The values are the
// medians; a single exchange that hangs or fails makes the result an error.
func latencyDuringStall(stall stallFunc) benchFunc {
	return func(ctx context.Context, f forwarder, e effort) []result {
		conns, err := openConnections(ctx, f, e)
		defer func() {
			for _, conn := range conns {
				_ = conn.Close()
			}
		}()
		if err != nil {
			return []result{{err: err}}
		}
		stalled, err := stall(ctx, f, e)
		if err != nil {
			return []result{{err: err}}
		}
		defer stalled.Close()
		open, err := latencyOnOpen(ctx, conns, e)
		fresh, freshErr := latencyOnNew(ctx, f, e)
		return []result{{fresh, freshErr}, {open, err}}
	}
}

// openConnections opens the connections for latencyOnOpen: one per sample to
// Source, and a last one to Echo.
func openConnections(ctx context.Context, f forwarder, e effort) ([]*connection, error) {
	var conns []*connection
	for i := range e.samples + 1 {
		port := peer.Source
		if i == e.samples {
			port = peer.Echo
		}
		conn, err := connect(ctx, f, port)
		if err != nil {
			return conns, fmt.Errorf("bench: connect: %w", err)
		}
		conns = append(conns, conn)
	}
	_, err := clientFirst.do(conns[e.samples])
	return conns, errors.Join(err, backoff.Sleep(ctx, e.sampleInterval))
}

// latencyOnOpen returns the median time of an exchange on open connections.
func latencyOnOpen(ctx context.Context, conns []*connection, e effort) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, e.hangTimeout)
	defer cancel()
	var values []float64
	for i := range e.samples {
		for _, c := range []struct {
			exchange
			conn *connection
		}{{clientFirst, conns[e.samples]}, {oneByte, conns[i]}} {
			v, err := c.doContext(ctx, c.conn)
			if err != nil {
				return 0, err
			}
			values = append(values, v)
		}
	}
	return median(values), nil
}

// latencyOnNew returns the median time of an exchange on new connections.
func latencyOnNew(ctx context.Context, f forwarder, e effort) (float64, error) {
	var values []float64
	for range e.samples {
		for _, x := range []exchange{clientFirst, oneByte} {
			v, err := x.doOnNewConnection(ctx, f, e)
			if err != nil {
				return 0, err
			}
			values = append(values, v)
		}
	}
	return median(values), nil
}
