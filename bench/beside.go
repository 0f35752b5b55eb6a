package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/kubeshore/kubeshore/test/peer"
)

// stallFunc opens a connection that holds up whatever it can, and returns it
// when it does.
type stallFunc func(ctx context.Context, f forwarder, e effort) (io.Closer, error)

// noStall disturbs nothing: for comparison.
func noStall(context.Context, forwarder, effort) (io.Closer, error) {
	return io.NopCloser(nil), nil
}

// stalledReader asks the pod for bytes without end and reads none.
func stalledReader(ctx context.Context, f forwarder, e effort) (io.Closer, error) {
	conn, err := connect(ctx, f, peer.Source)
	if err != nil {
		return nil, fmt.Errorf("bench: stall: %w", err)
	}
	if _, err := fmt.Fprintf(conn, "%d\n", int64(math.MaxInt64)); err != nil {
		return nil, errors.Join(fmt.Errorf("bench: stall: %w", err), conn.Close())
	}
	if err := wait(ctx, e.settleDelay); err != nil {
		return nil, errors.Join(fmt.Errorf("bench: stall: %w", err), conn.Close())
	}
	return conn, nil
}

// stalledPod sends bytes to a pod that reads none, until they are not taken.
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

// latencyDuringStall has exchanges while another connection is stalled: on new
// connections, and on connections that were there before it stalled, each on
// two ports, of which one is that of a stalled reader. The figures are the
// medians; one exchange that hangs or fails is enough to say so.
func latencyDuringStall(offend stallFunc) benchFunc {
	return func(ctx context.Context, f forwarder, e effort) []result {
		there, err := openConnections(ctx, f, e)
		defer func() {
			for _, conn := range there {
				_ = conn.Close()
			}
		}()
		if err != nil {
			return []result{{err: err}}
		}
		stalled, err := offend(ctx, f, e)
		if err != nil {
			return []result{{err: err}}
		}
		defer stalled.Close()
		old, err := latencyOnOpen(ctx, there, e)
		anew, errNew := latencyOnNew(ctx, f, e)
		return []result{{anew, errNew}, {old, err}}
	}
}

// openConnections makes connections that established uses: to Source all but the
// last, which is to Echo.
func openConnections(ctx context.Context, f forwarder, e effort) ([]*connection, error) {
	var there []*connection
	for i := range e.samples + 1 {
		port := peer.Source
		if i == e.samples {
			port = peer.Echo
		}
		conn, err := connect(ctx, f, port)
		if err != nil {
			return there, fmt.Errorf("bench: connect: %w", err)
		}
		there = append(there, conn)
	}
	_, err := clientFirst.do(there[e.samples])
	return there, errors.Join(err, wait(ctx, e.sampleInterval))
}

// latencyOnOpen has exchanges on connections that are open.
func latencyOnOpen(ctx context.Context, there []*connection, e effort) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, e.responseTimeout)
	defer cancel()
	var values []float64
	for i := range e.samples {
		for _, c := range []struct {
			exchange
			conn *connection
		}{{clientFirst, there[e.samples]}, {oneByte, there[i]}} {
			v, err := c.doContext(ctx, c.conn)
			if err != nil {
				return 0, err
			}
			values = append(values, v)
		}
	}
	return median(values), nil
}

// latencyOnNew has exchanges on new connections.
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
