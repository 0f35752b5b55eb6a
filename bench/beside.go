package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/kubeshore/kubeshore/test/peer"
)

// offender opens a connection that holds up whatever it can, and returns it
// when it does.
type offender func(ctx context.Context, f forwarder, e effort) (io.Closer, error)

// nobody disturbs nothing: for comparison.
func nobody(context.Context, forwarder, effort) (io.Closer, error) {
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
	if err := wait(ctx, e.settle); err != nil {
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
	if err := conn.stalled(ctx, e.settle, 256<<20); err != nil {
		return nil, errors.Join(fmt.Errorf("bench: stall: %w", err), conn.Close())
	}
	return conn, nil
}

// beside has exchanges while another connection is stalled: on new
// connections, and on connections that were there before it stalled, each on
// two ports, of which one is that of a stalled reader. The figures are the
// medians; one exchange that hangs or fails is enough to say so.
func beside(offend offender) procedure {
	return func(ctx context.Context, f forwarder, e effort) []outcome {
		there, err := establish(ctx, f, e)
		defer func() {
			for _, conn := range there {
				_ = conn.Close()
			}
		}()
		if err != nil {
			return []outcome{{err: err}}
		}
		stalled, err := offend(ctx, f, e)
		if err != nil {
			return []outcome{{err: err}}
		}
		defer stalled.Close()
		old, err := established(ctx, there, e)
		anew, errNew := newlyMade(ctx, f, e)
		return []outcome{{anew, errNew}, {old, err}}
	}
}

// establish makes connections that established uses: to Source all but the
// last, which is to Echo.
func establish(ctx context.Context, f forwarder, e effort) ([]*connection, error) {
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
	_, err := clientFirst.on(there[e.samples])
	return there, errors.Join(err, wait(ctx, e.gap))
}

// established has exchanges on connections that are open.
func established(ctx context.Context, there []*connection, e effort) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, e.answer)
	defer cancel()
	var values []float64
	for i := range e.samples {
		for _, c := range []struct {
			exchange
			conn *connection
		}{{clientFirst, there[e.samples]}, {oneByte, there[i]}} {
			v, err := c.within(ctx, c.conn)
			if err != nil {
				return 0, err
			}
			values = append(values, v)
		}
	}
	return median(values), nil
}

// newlyMade has exchanges on new connections.
func newlyMade(ctx context.Context, f forwarder, e effort) (float64, error) {
	var values []float64
	for range e.samples {
		for _, x := range []exchange{clientFirst, oneByte} {
			v, err := x.anew(ctx, f, e)
			if err != nil {
				return 0, err
			}
			values = append(values, v)
		}
	}
	return median(values), nil
}
