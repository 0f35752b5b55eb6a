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
)

const (
	chunkSize        = 256 << 10 // bytes that are read or written at once
	maxUpperBytes    = 1 << 20   // bytes that Upper takes
	peerStallTimeout = 10 * time.Minute
)

var (
	errReset = errors.New("to be reset")
	errCount = errors.New("not a count")
)

// handler is what a port does with one connection. It returns when that is
// to be closed; with an error, when it is to be reset. The end of ctx closes
// the connection under it.
type handler func(ctx context.Context, conn *net.TCPConn) error

// handlers returns what each port does; HTTP has a server of its own.
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
	pattern := make([]byte, chunkSize/251*251) // whole periods: each chunk begins where the last one ended
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
	wait(ctx, peerStallTimeout)
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
	wait(ctx, d)
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

// readCount reads a line that is a number of bytes.
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

// readLine reads a line, which must fit the reader's buffer, and returns it
// without its end.
func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	return string(bytes.TrimSuffix(line, []byte("\n"))), nil
}
