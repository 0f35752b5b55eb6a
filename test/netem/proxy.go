// Package netem emulates a bad network between two programs on this machine: a
// TCP proxy that delays data, drops it, or resets idle or all connections.
package netem

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/kubeshore/kubeshore/internal/backoff"
)

// Proxy forwards connections to one address. Data and the end of a connection
// arrive half a round trip after they were sent. A new connection is forwarded
// a full round trip late, like after a real handshake. Throughput is limited
// only by memory: each direction of a connection has at most 16 MiB in
// transit, then the sender is held up.
//
// Its methods are safe for concurrent use.
type Proxy struct {
	target string

	mu          sync.Mutex
	roundTrip   time.Duration
	idleTimeout time.Duration // 0 means none
	blackhole   bool
	links       map[*link]struct{}
}

// New returns a proxy to target, an address as for net.Dial.
func New(target string, roundTrip time.Duration) *Proxy {
	return &Proxy{target: target, roundTrip: roundTrip, links: make(map[*link]struct{})}
}

// Serve forwards the connections that l accepts until ctx ends. Then it closes
// l, resets every connection, and returns when all its goroutines have ended.
func (p *Proxy) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var links sync.WaitGroup
	defer links.Wait()
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				reset(conn)
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // most likely out of file descriptors: retry
			_ = backoff.Sleep(ctx, 50*time.Millisecond)
			continue
		}
		links.Go(func() { p.forward(ctx, conn) })
	}
}

// SetRoundTrip changes the round trip of data that is sent from now on.
func (p *Proxy) SetRoundTrip(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.roundTrip = d
}

// SetIdleTimeout makes the proxy reset both sides of a connection on which no
// data arrives for d, like a load balancer or a firewall. It applies to
// connections that are made from now on. Zero, the default, means no timeout.
func (p *Proxy) SetIdleTimeout(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idleTimeout = d
}

// Blackhole makes the proxy drop all data, including data in transit.
// Connections stay open on both sides, and new ones are accepted. A connection
// that lost data never delivers anything again, like a TCP connection with a
// gap. A connection that was idle all the time works again after Resume.
func (p *Proxy) Blackhole() { p.setBlackhole(true) }

// Resume ends the effect of Blackhole.
func (p *Proxy) Resume() { p.setBlackhole(false) }

func (p *Proxy) setBlackhole(blackhole bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blackhole = blackhole
}

// ResetAll resets every connection on both sides at once. New connections are
// still accepted.
func (p *Proxy) ResetAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.resetBoth()
	}
}

// state returns the round trip and whether data is dropped.
func (p *Proxy) state() (roundTrip time.Duration, blackhole bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.roundTrip, p.blackhole
}

// forward forwards one connection until it ends.
func (p *Proxy) forward(ctx context.Context, client net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &link{proxy: p, resetBoth: cancel, client: client}
	p.mu.Lock()
	p.links[l] = struct{}{}
	l.idleTimeout = p.idleTimeout
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.links, l)
		p.mu.Unlock()
	}()
	l.run(ctx)
}

// reset closes a connection so that its other end gets a reset.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
