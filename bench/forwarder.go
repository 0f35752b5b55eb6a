package main

import (
	"context"
	"net"
	"os"
	"time"
)

// target is what a forwarder is to bring to this machine: a Service with one
// pod, whose ports are those of package peer, each its own target port.
type target struct {
	kubeconfig         string
	namespace, service string
	ports              []uint16
}

// forwarder is a program that makes the ports of a Service answer on this
// machine. It is started and stopped again and again, one of all at a time.
type forwarder interface {
	// name is the heading of its column.
	name() string
	// start runs it and returns when it says that it is ready. It runs until
	// stop, at most until ctx ends.
	start(ctx context.Context, to target) error
	// dial connects to a port of the target.
	dial(ctx context.Context, port uint16) (net.Conn, error)
	// pid is its process, for its CPU time and memory.
	pid() int
	// stop ends it. It returns an error if it had ended before.
	stop() error
}

// connection is a connection through a forwarder that lives as long as the
// context it was made with: after that every read and write fails with
// os.ErrDeadlineExceeded.
type connection struct {
	net.Conn
	release func() bool
}

// connect makes a connection through a forwarder.
func connect(ctx context.Context, f forwarder, port uint16) (*connection, error) {
	conn, err := f.dial(ctx, port)
	if err != nil {
		return nil, err
	}
	release := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return &connection{Conn: conn, release: release}, nil
}

// Close ends the connection.
func (c *connection) Close() error {
	c.release()
	return c.Conn.Close()
}

// fillUntilStalled waits until the connection takes no more for as long as the pause
// given, a reset included, or has taken that many bytes. It returns an error
// only if ctx ends.
func (c *connection) fillUntilStalled(ctx context.Context, pause time.Duration, most int) error {
	chunk := make([]byte, chunkSize)
	for sent := 0; sent < most; {
		if err := c.SetWriteDeadline(time.Now().Add(pause)); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return os.ErrDeadlineExceeded
		}
		n, err := c.Write(chunk)
		sent += n
		if err != nil && n == 0 {
			return nil
		}
	}
	return nil
}

// wait returns after the time given; with an error if ctx ends before.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
