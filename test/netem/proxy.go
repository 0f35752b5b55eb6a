// Package netem puts a bad network between two programs of this machine: a TCP
// proxy that delays what it passes on, goes silent, or cuts every connection,
// as it is told.
package netem

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Proxy passes connections on to one address. Each byte, and each end of a
// connection, arrives half a round trip after it was sent, and a new
// connection is taken up one whole round trip late, as its handshake would
// take. Throughput is not limited, but for what is bounded: at most 16 MiB of
// a direction of a connection are on their way, beyond which the sender is
// held up.
//
// Its methods may be called by several goroutines at once.
type Proxy struct {
	target string

	mu        sync.Mutex
	roundTrip time.Duration
	blackhole bool
	links     map[*link]struct{}
}

// New returns a proxy to a target, an address as net.Dial takes it.
func New(target string, roundTrip time.Duration) *Proxy {
	return &Proxy{target: target, roundTrip: roundTrip, links: make(map[*link]struct{})}
}

// Serve passes on what the listener accepts until ctx ends. Then it closes the
// listener, resets every connection, and returns when nothing of it runs.
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
		case err != nil: // most likely out of file descriptors: wait for some to be free
			wait(ctx, 50*time.Millisecond)
			continue
		}
		links.Go(func() { p.forward(ctx, conn) })
	}
}

// SetRoundTrip changes the round trip, for what is sent from now on.
func (p *Proxy) SetRoundTrip(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.roundTrip = d
}

// Blackhole swallows whatever is sent, what is on its way included, and answers
// nothing; connections stay open on both sides, and new ones are accepted. A
// connection that has lost something never carries anything again, as none of
// TCP would that has a gap; one that was idle all the time does after Resume.
func (p *Proxy) Blackhole() { p.setBlackhole(true) }

// Resume ends the silence.
func (p *Proxy) Resume() { p.setBlackhole(false) }

func (p *Proxy) setBlackhole(silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blackhole = silent
}

// ResetAll resets every connection, on both sides and at once. New ones are taken.
func (p *Proxy) ResetAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.reset()
	}
}

// state returns the round trip, and whether what passes now is lost.
func (p *Proxy) state() (roundTrip time.Duration, silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.roundTrip, p.blackhole
}

// forward takes one connection from its first byte to its end.
func (p *Proxy) forward(ctx context.Context, client net.Conn) {
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	l := &link{proxy: p, reset: cut, client: client}
	p.mu.Lock()
	p.links[l] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.links, l)
		p.mu.Unlock()
	}()
	l.run(ctx)
}

// reset ends a connection in such a way that its other end gets an error.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close() // there is nobody left to tell
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
