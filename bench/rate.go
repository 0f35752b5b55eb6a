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

// worker is what one of those does who work at once: do, again and again, and
// then finish.
type worker struct{ do, finish func() error }

// rate counts how often something is done in the effort's span by some workers
// at once, per second. They begin when all are prepared.
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

// connectRate counts new connections: each is made, gets one answer, and is
// closed.
func connectRate(workers int) benchFunc {
	return rate(workers, func(ctx context.Context, f forwarder, e effort) (worker, error) {
		w := worker{
			do: func() error {
				_, err := clientFirst.doOnNewConnection(ctx, f, e)
				return err
			},
			finish: func() error { return nil },
		}
		return w, w.do() // the first one is not counted
	})
}

// requestRate counts HTTP requests over connections that are kept.
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

// doRequest has one request answered. The answer must be as long as the buffer.
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

// responseSize has one request answered and returns the bytes of the answer,
// which all others have too. So they need not be parsed, which would cost the
// CPUs that the forwarder runs on.
func responseSize(conn io.ReadWriter) (int, error) {
	if _, err := io.WriteString(conn, request); err != nil {
		return 0, fmt.Errorf("bench: write request: %w", err)
	}
	var whole bytes.Buffer
	resp, err := http.ReadResponse(bufio.NewReader(io.TeeReader(conn, &whole)), nil)
	if err != nil {
		return 0, fmt.Errorf("bench: read response: %w", err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, fmt.Errorf("bench: read response: %w", err)
	}
	return whole.Len(), nil
}
