// Package peer is the far end of a forwarded connection in tests and
// benchmarks of the data path: a server whose every port behaves in a way of
// its own. A number or duration that a client sends is a line: decimal digits,
// or what time.ParseDuration reads, and a newline.
//
//	7000 Echo    sends back what it is sent; ends after the client's end
//	7001 Source  is sent a count; sends that many bytes and ends; byte i is i modulo 251
//	7002 Sink    is sent a count, then that many bytes; answers "done\n" and ends
//	7003 Greet   says "hello\n" at once, then is as Echo
//	7004 Stall   neither reads nor writes; resets after ten minutes
//	7005 Reset   resets at once
//	7006 Late    is sent a duration; answers "late\n" after that time and ends, whether or not the client has ended its half
//	7007 Upper   reads to the client's end, then answers the same in upper case and ends; 1 MiB at most
//	7080 HTTP    answers "ok\n" and keeps the connection; GET /connections is the number of open connections of each port, as JSON
//
// Where a client breaks these rules, or goes too soon, its connection is reset.
// Upper can't be reached through a port-forward whose runtime passes no
// half-close on (containerd): it is there to show that.
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
)

// The ports, each with its behaviour.
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

// Serve behaves on each listener as the port that it is given for, until ctx
// ends; then it closes the listeners, breaks off what is open, and returns when
// nothing of it runs. The listeners may be elsewhere than on their port, and
// must be of TCP.
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

// openByPort returns the number of open connections by port, as JSON has it.
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
		case err != nil: // most likely out of file descriptors: wait for some to be free
			wait(ctx, 50*time.Millisecond)
			continue
		}
		connections.Go(func() { s.serveOne(ctx, port, conn.(*net.TCPConn)) })
	}
}

// serveOne lets the port's behaviour have one connection, and ends it: in
// order if the behaviour says nothing of an error, else by a reset.
func (s *server) serveOne(ctx context.Context, port uint16, conn *net.TCPConn) {
	s.addOpen(port, 1)
	defer s.addOpen(port, -1)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := handlers()[port](ctx, conn); err != nil {
		_ = conn.SetLinger(0)
	}
	_ = conn.Close() // there is nobody to tell
}

// serveHTTP answers requests over connections that stay.
func (s *server) serveHTTP(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "ok\n") // a client that has gone is no fault
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
		_ = httpServer.Shutdown(grace) // Close ends what it could not
		stopped <- httpServer.Close()
	})
	err := httpServer.Serve(l)
	if stop() {
		return err
	}
	return <-stopped
}

// wait returns after the time given, or at the end of ctx.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
