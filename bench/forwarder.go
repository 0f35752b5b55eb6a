package main

import (
	"context"
	"net"
	"os"
	"time"
)

// target is the Service to forward. It has one pod, and its ports are those of
// package peer, each with itself as the target port.
type target struct {
	kubeconfig         string
	namespace, service string
	ports              []uint16
}

// forwarder is a program that forwards the ports of a Service to this machine.
// Each benchmark starts and stops it; only one forwarder runs at a time.
type forwarder interface {
	// name returns the heading of the forwarder's column.
	name() string
	// start runs the program and returns when it reports that it is ready. It runs
	// until stop is called or ctx ends.
	start(ctx context.Context, to target) error
	// dial connects to a port of the target.
	dial(ctx context.Context, port uint16) (net.Conn, error)
	// pid returns the ID of the process, for its CPU time and memory.
	pid() int
	// stop ends the program. It returns an error if the program had exited before.
	stop() error
}

// connection is a connection through a forwarder that is bound to the context
// it was made with. When the context ends, every read and write fails with
// os.ErrDeadlineExceeded.
type connection struct {
	net.Conn
	release func() bool
}

// connect opens a connection through a forwarder.
func connect(ctx context.Context, f forwarder, port uint16) (*connection, error) {
	conn, err := f.dial(ctx, port)
	if err != nil {
		return nil, err
	}
	release := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return &connection{Conn: conn, release: release}, nil
}

// Close closes the connection.
func (c *connection) Close() error {
	c.release()
	return c.Conn.Close()
}

// fillUntilStalled writes until no byte was accepted for stallWindow, the
// connection was reset, or maxBytes were written. It returns an error only if
// ctx ends.
func (c *connection) fillUntilStalled(ctx context.Context, stallWindow time.Duration, maxBytes int) error {
	chunk := make([]byte, chunkSize)
	for sent := 0; sent < maxBytes; {
		if err := c.SetWriteDeadline(time.Now().Add(stallWindow)); err != nil {
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
