package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kubeshore/kubeshore/test/peer"
)

const request = "GET / HTTP/1.1\r\nHost: peer\r\n\r\n"

// worker repeats do, and calls finish at the end.
type worker struct{ do, finish func() error }

// rate measures how many operations per second concurrent workers complete
// within rateWindow. They start when all of them are prepared.
func rate(workers int, prepare func(ctx context.Context, f forwarder, e effort) (worker, error)) benchFunc {
	return func(ctx context.Context, f forwarder, e effort) []result {
		var done atomic.Int64
		var preparing sync.WaitGroup
		preparing.Add(workers)
		var working errgroup.Group
		for range workers {
			working.Go(func() error {
				w, err := prepare(ctx, f, e)
				preparing.Done()
				if err != nil {
					return err
				}
				preparing.Wait()
				for begin := time.Now(); err == nil && time.Since(begin) < e.rateWindow; {
					if err = w.do(); err == nil {
						done.Add(1)
					}
				}
				return errors.Join(err, w.finish())
			})
		}
		preparing.Wait()
		begin := time.Now()
		if err := working.Wait(); err != nil {
			return []result{{err: err}}
		}
		return measured(float64(done.Load()) / time.Since(begin).Seconds())
	}
}

// connectRate measures new connections per second. Each has one exchange and
// is closed.
func connectRate(workers int) benchFunc {
	return rate(workers, func(ctx context.Context, f forwarder, e effort) (worker, error) {
		w := worker{
			do: func() error {
				_, err := clientFirst.doOnNewConnection(ctx, f, e)
				return err
			},
			finish: func() error { return nil },
		}
		return w, w.do() // the first one doesn't count
	})
}

// requestRate measures HTTP requests per second over keep-alive connections.
func requestRate(workers int) benchFunc {
	return rate(workers, func(ctx context.Context, f forwarder, _ effort) (worker, error) {
		conn, err := connect(ctx, f, peer.HTTP)
		if err != nil {
			return worker{}, fmt.Errorf("bench: connect: %w", err)
		}
		size, err := responseSize(conn)
		if err != nil {
			return worker{}, errors.Join(err, conn.Close())
		}
		response := make([]byte, size)
		return worker{do: func() error { return doRequest(conn, response) }, finish: conn.Close}, nil
	})
}

// doRequest sends one request and reads a response of exactly the buffer's
// length.
func doRequest(conn io.ReadWriter, response []byte) error {
	if _, err := io.WriteString(conn, request); err != nil {
		return fmt.Errorf("bench: write request: %w", err)
	}
	if _, err := io.ReadFull(conn, response); err != nil {
		return fmt.Errorf("bench: read response: %w", err)
	}
	if !bytes.HasPrefix(response, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("bench: read response: %w: %q", errFormat, response)
	}
	return nil
}

// responseSize sends one request and returns the length of the response in
// bytes. All other responses have the same length, so they need not be parsed,
// which would take CPU time from the forwarder.
func responseSize(conn io.ReadWriter) (int, error) {
	if _, err := io.WriteString(conn, request); err != nil {
		return 0, fmt.Errorf("bench: write request: %w", err)
	}
	var raw bytes.Buffer
	resp, err := http.ReadResponse(bufio.NewReader(io.TeeReader(conn, &raw)), nil)
	if err != nil {
		return 0, fmt.Errorf("bench: read response: %w", err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, fmt.Errorf("bench: read response: %w", err)
	}
	return raw.Len(), nil
}
