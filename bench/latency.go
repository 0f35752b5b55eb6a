package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kubeshore/kubeshore/internal/backoff"
	"github.com/kubeshore/kubeshore/test/peer"
)

// exchange is one request and response on a connection: the bytes to send, if
// any, and the bytes expected in return.
type exchange struct {
	port       uint16
	send, want string
}

// The exchanges of the benchmarks. In serverFirst the server speaks first, in
// the others the client.
var (
	serverFirst = exchange{port: peer.Greet, want: "hello\n"}
	clientFirst = exchange{port: peer.Echo, send: "x", want: "x"}
	oneByte     = exchange{port: peer.Source, send: "1\n", want: "\x00"}
)

// do runs the exchange on a connection and returns its duration in
// milliseconds.
func (x exchange) do(conn io.ReadWriter) (float64, error) {
	begin := time.Now()
	if x.send != "" {
		if _, err := io.WriteString(conn, x.send); err != nil {
			return 0, fmt.Errorf("bench: write request: %w", err)
		}
	}
	if err := expect(conn, x.want); err != nil {
		return 0, err
	}
	return milliseconds(time.Since(begin)), nil
}

// doContext is like do, and fails when ctx ends.
func (x exchange) doContext(ctx context.Context, conn net.Conn) (float64, error) {
	release := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer release()
	return x.do(conn)
}

// doOnNewConnection runs the exchange on a new connection and returns the
// duration from before the connect, in milliseconds.
func (x exchange) doOnNewConnection(ctx context.Context, f forwarder, e effort) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, e.hangTimeout)
	defer cancel()
	begin := time.Now()
	conn, err := connect(ctx, f, x.port)
	if err != nil {
		return 0, fmt.Errorf("bench: connect: %w", err)
	}
	defer conn.Close()
	_, err = x.do(conn)
	return milliseconds(time.Since(begin)), err
}

// firstByteLatency measures the time from connect to the first response of a
// forwarder in use: for one new connection at a time, and for the slowest of
// eight at once, each with the server and with the client speaking first.
func firstByteLatency(ctx context.Context, f forwarder, e effort) []result {
	sampled := func(n, samples int, x exchange) result {
		v, err := medianWarm(ctx, f, e, samples, func() (float64, error) { return slowestOf(ctx, f, e, x, n) })
		return result{v, err}
	}
	return []result{
		sampled(1, e.samples, serverFirst), sampled(1, e.samples, clientFirst),
		sampled(8, e.bursts, serverFirst), sampled(8, e.bursts, clientFirst),
	}
}

// medianWarm returns the median of the samples. It makes one connection before
// them that does not count.
func medianWarm(ctx context.Context, f forwarder, e effort, samples int, sample func() (float64, error)) (float64, error) {
	if _, err := clientFirst.doOnNewConnection(ctx, f, e); err != nil {
		return 0, err
	}
	values := make([]float64, 0, samples)
	for range samples {
		if err := backoff.Sleep(ctx, e.sampleInterval); err != nil {
			return 0, err
		}
		v, err := sample()
		if err != nil {
			return 0, err
		}
		values = append(values, v)
	}
	return median(values), nil
}

// slowestOf runs the exchange on n new connections at once and returns the
// longest duration.
func slowestOf(ctx context.Context, f forwarder, e effort, x exchange, n int) (float64, error) {
	values := make([]float64, n)
	var exchanging errgroup.Group
	for i := range values {
		exchanging.Go(func() (err error) {
			values[i], err = x.doOnNewConnection(ctx, f, e)
			return err
		})
	}
	err := exchanging.Wait()
	return slices.Max(values), err
}

// coldLatency measures the time from connect to the first response of the
// first connection after the start.
func coldLatency(x exchange) benchFunc {
	return func(ctx context.Context, f forwarder, e effort) []result {
		v, err := x.doOnNewConnection(ctx, f, e)
		return []result{{v, err}}
	}
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1e3 }

// median returns the middle value, or the mean of the two middle values. It
// panics if there are no values.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
