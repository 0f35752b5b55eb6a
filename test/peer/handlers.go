package peer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/kubeshore/kubeshore/internal/backoff"
)

const (
	chunkSize        = 256 << 10 // bytes per read or write
	maxUpperBytes    = 1 << 20   // of input for Upper
	peerStallTimeout = 10 * time.Minute
)

var (
	errReset = errors.New("reset requested")
	errCount = errors.New("invalid count")
)

// handler serves one connection. When it returns nil, the connection is
// closed; when it returns an error, the connection is reset. The connection is
// also closed when ctx ends.
type handler func(ctx context.Context, conn *net.TCPConn) error

// handlers returns the handler of each port. HTTP has none, because it has a
// separate server.
func handlers() map[uint16]handler {
	return map[uint16]handler{
		Echo: echo, Source: source, Sink: sink, Greet: greet, Stall: stall,
		Reset: reset, Late: late, Upper: upper, HTTP: nil,
	}
}

func echo(_ context.Context, conn *net.TCPConn) error {
	_, err := io.Copy(conn, conn)
	return err
}

func greet(ctx context.Context, conn *net.TCPConn) error {
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		return err
	}
	return echo(ctx, conn)
}

func source(_ context.Context, conn *net.TCPConn) error {
	n, err := readCount(bufio.NewReaderSize(conn, 64))
	if err != nil {
		return err
	}
	pattern := make([]byte, chunkSize/251*251) // full periods, so that each chunk continues the last one
	for i := range pattern {
		pattern[i] = byte(i % 251)
	}
	for n > 0 {
		wrote, err := conn.Write(pattern[:min(n, int64(len(pattern)))])
		if err != nil {
			return err
		}
		n -= int64(wrote)
	}
	return nil
}

func sink(_ context.Context, conn *net.TCPConn) error {
	r := bufio.NewReaderSize(conn, chunkSize)
	n, err := readCount(r)
	for n > 0 && err == nil {
		var dropped int
		dropped, err = r.Discard(int(min(n, chunkSize)))
		n -= int64(dropped)
	}
	if err != nil {
		return err
	}
	_, err = io.WriteString(conn, "done\n")
	return err
}

func stall(ctx context.Context, _ *net.TCPConn) error {
	_ = backoff.Sleep(ctx, peerStallTimeout)
	return errReset
}

func reset(context.Context, *net.TCPConn) error { return errReset }

func late(ctx context.Context, conn *net.TCPConn) error {
	line, err := readLine(bufio.NewReaderSize(conn, 64))
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(line)
	if err != nil {
		return err
	}
	_ = backoff.Sleep(ctx, d)
	_, err = io.WriteString(conn, "late\n")
	return err
}

func upper(_ context.Context, conn *net.TCPConn) error {
	text, err := io.ReadAll(io.LimitReader(conn, maxUpperBytes+1))
	if err != nil {
		return err
	}
	if len(text) > maxUpperBytes {
		return errReset
	}
	_, err = conn.Write(bytes.ToUpper(text))
	return err
}

// readCount reads a line with a number of bytes.
func readCount(r *bufio.Reader) (int64, error) {
	line, err := readLine(r)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(line, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%w: %q", errCount, line)
	}
	return n, nil
}

// readLine reads a line, which must fit into the reader's buffer, and returns
// it without the newline.
func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	return string(bytes.TrimSuffix(line, []byte("\n"))), nil
}
