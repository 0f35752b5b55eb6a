package listen

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// acceptRetryDelay is how long a socket waits after a failed accept(2).
const acceptRetryDelay = 50 * time.Millisecond

// Ports accepts connections to the ports of a [Taker]. Its methods are safe for
// concurrent use.
type Ports struct {
	taker       Taker
	accepted    chan net.Conn
	closed      chan struct{}
	acceptLoops sync.WaitGroup // one for each socket

	mu      sync.Mutex
	sockets map[netip.AddrPort]Socket // by Socket.For; nil once closed
}

// New returns a Ports that doesn't accept any connections yet. Close doesn't
// close taker.
func New(taker Taker) *Ports {
	return &Ports{
		taker: taker, accepted: make(chan net.Conn), closed: make(chan struct{}),
		sockets: make(map[netip.AddrPort]Socket),
	}
}

// How describes how the Taker listens.
func (p *Ports) How() string { return p.taker.How() }

// Set makes want the set of ports that connections are accepted for. It returns
// an error for each port that isn't available; calling Set again retries these.
// Established connections are not affected.
func (p *Ports) Set(ctx context.Context, want []netip.AddrPort) map[netip.AddrPort]error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := net.ErrClosed
	var opened []Socket
	var portErrors map[netip.AddrPort]error
	if p.sockets != nil {
		p.closeUnwantedLocked(want)
		opened, portErrors, err = p.taker.Take(ctx, want, slices.Collect(maps.Keys(p.sockets)))
	}
	for _, socket := range opened {
		p.sockets[socket.For] = socket
		p.acceptLoops.Go(func() { p.acceptFrom(socket) })
	}
	if err == nil {
		return portErrors
	}
	portErrors = make(map[netip.AddrPort]error, len(want))
	for _, at := range want {
		if _, ok := p.sockets[at]; !ok {
			portErrors[at] = err
		}
	}
	return portErrors
}

// closeUnwantedLocked closes the sockets for ports that are not in want. p.mu
// must be held.
func (p *Ports) closeUnwantedLocked(want []netip.AddrPort) {
	wanted := make(map[netip.AddrPort]bool, len(want)+1)
	wanted[netip.AddrPort{}] = true
	for _, at := range want {
		wanted[at] = true
	}
	for at, socket := range p.sockets {
		if !wanted[at] {
			_ = socket.Close() // closed even on an error
			delete(p.sockets, at)
		}
	}
}

// acceptFrom passes connections from one socket to Accept until the socket is closed.
func (p *Ports) acceptFrom(socket Socket) {
	for {
		conn, err := socket.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // most likely out of file descriptors
			select {
			case <-p.closed:
			case <-time.After(acceptRetryDelay):
			}
			continue
		}
		select {
		case p.accepted <- conn:
		case <-p.closed:
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // reset: a FIN would look like an empty response
			}
			_ = conn.Close() // closed even on an error
			return
		}
	}
}

// Accept returns the next connection; LocalAddr is the address and port that the
// client has dialed. Accept returns net.ErrClosed after Close.
func (p *Ports) Accept() (net.Conn, error) {
	select {
	case conn := <-p.accepted:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close closes all sockets and waits for its goroutines. It may be called more
// than once.
func (p *Ports) Close() error {
	p.mu.Lock()
	var errs []error
	if p.sockets != nil {
		close(p.closed)
		for _, socket := range p.sockets {
			errs = append(errs, socket.Close())
		}
		p.sockets = nil
	}
	p.mu.Unlock()
	p.acceptLoops.Wait()
	return errors.Join(slices.DeleteFunc(errs, func(err error) bool { return err == nil })...)
}
