// Package peer is the far end of forwarded connections in tests and benchmarks:
// a server with a different behavior on each port. Clients send numbers and
// durations as a line: decimal digits, or a duration as for time.ParseDuration.
//
//	7000 Echo    sends all input back; closes after the client's half-close
//	7001 Source  reads a count, sends that many bytes and closes; byte i is i modulo 251
//	7002 Sink    reads a count and that many bytes, answers "done\n" and closes
//	7003 Greet   sends "hello\n" at once, then behaves like Echo
//	7004 Stall   neither reads nor writes; resets after ten minutes
//	7005 Reset   resets at once
//	7006 Late    reads a duration, answers "late\n" after it and closes, with or without a half-close of the client
//	7007 Upper   reads until the client's half-close, answers with the input in uppercase and closes; at most 1 MiB
//	7080 HTTP    answers "ok\n" and keeps the connection open; GET /connections returns the number of open connections of each port as JSON
//
// If a client sends invalid input or closes too early, its connection is reset.
// Upper doesn't work through a port-forward if the container runtime doesn't
// forward half-closes. containerd doesn't, and Upper is there to show that.
package peer

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kubeshore/kubeshore/internal/backoff"
)

// The ports.
const (
	Echo   uint16 = 7000
	Source uint16 = 7001
	Sink   uint16 = 7002
	Greet  uint16 = 7003
	Stall  uint16 = 7004
	Reset  uint16 = 7005
	Late   uint16 = 7006
	Upper  uint16 = 7007
	HTTP   uint16 = 7080
)

// Ports returns every port, in ascending order.
func Ports() []uint16 {
	return slices.Sorted(maps.Keys(handlers()))
}

// Serve serves each listener with the behavior of its port until ctx ends.
// Then it closes the listeners and all connections, and returns when all its
// goroutines have ended. The listeners must be TCP listeners; their real port
// may be another one.
func Serve(ctx context.Context, listeners map[uint16]net.Listener) error {
	s := &server{open: make(map[uint16]int)}
	running, ctx := errgroup.WithContext(ctx)
	for port, l := range listeners {
		running.Go(func() error {
			if port == HTTP {
				return s.serveHTTP(ctx, l)
			}
			return s.serve(ctx, port, l)
		})
	}
	return running.Wait()
}

// server counts the open connections of each port.
type server struct {
	mu   sync.Mutex
	open map[uint16]int
}

func (s *server) addOpen(port uint16, change int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[port] += change
}

// openByPort returns the number of open connections of each port, for JSON.
func (s *server) openByPort() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	result := make(map[string]int)
	for port := range handlers() {
		result[strconv.Itoa(int(port))] = s.open[port]
	}
	return result
}

// serve accepts connections to a port and returns when all of them have ended.
func (s *server) serve(ctx context.Context, port uint16, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var connections sync.WaitGroup
	defer connections.Wait()
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // most likely out of file descriptors: retry
			_ = backoff.Sleep(ctx, 50*time.Millisecond)
			continue
		}
		connections.Go(func() { s.serveOne(ctx, port, conn.(*net.TCPConn)) })
	}
}

// serveOne runs the port's handler on one connection. Then it closes the
// connection, or resets it if the handler returned an error.
func (s *server) serveOne(ctx context.Context, port uint16, conn *net.TCPConn) {
	s.addOpen(port, 1)
	defer s.addOpen(port, -1)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := handlers()[port](ctx, conn); err != nil {
		_ = conn.SetLinger(0)
	}
	_ = conn.Close()
}

// serveHTTP answers HTTP requests on keep-alive connections.
func (s *server) serveHTTP(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "ok\n") // the client may have disconnected
	})
	mux.HandleFunc("GET /connections", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.openByPort())
	})
	httpServer := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: time.Minute,
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				s.addOpen(HTTP, 1)
			case http.StateClosed, http.StateHijacked:
				s.addOpen(HTTP, -1)
			case http.StateActive, http.StateIdle:
			}
		},
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = httpServer.Shutdown(grace) // Close handles the remaining connections
		stopped <- httpServer.Close()
	})
	err := httpServer.Serve(l)
	if stop() {
		return err
	}
	return <-stopped
}
