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

// Ports accepts connections to what a Taker takes. Its methods may be called by
// several goroutines at once.
type Ports struct {
	taker    Taker
	accepted chan net.Conn
	closed   chan struct{}
	serving  sync.WaitGroup // one for each socket

	mu      sync.Mutex
	sockets map[netip.AddrPort]Socket // nil once closed
}

// New returns a Ports that doesn't accept anything yet. It doesn't close taker.
func New(taker Taker) *Ports {
	return &Ports{
		taker: taker, accepted: make(chan net.Conn), closed: make(chan struct{}),
		sockets: make(map[netip.AddrPort]Socket),
	}
}

// How says in words how ports are taken.
func (p *Ports) How() string { return p.taker.How() }

// Set makes want the whole set that is accepted for. It returns why for those
// that could not be had; a further call with the same set tries them anew.
// Connections that were accepted already are not touched.
func (p *Ports) Set(ctx context.Context, want []netip.AddrPort) map[netip.AddrPort]error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := net.ErrClosed
	var taken []Socket
	var faults map[netip.AddrPort]error
	if p.sockets != nil {
		p.drop(want)
		taken, faults, err = p.taker.Take(ctx, want, slices.Collect(maps.Keys(p.sockets)))
	}
	for _, socket := range taken {
		p.sockets[socket.For] = socket
		p.serving.Go(func() { p.serve(socket) })
	}
	if err == nil {
		return faults
	}
	faults = make(map[netip.AddrPort]error, len(want))
	for _, at := range want {
		if _, ok := p.sockets[at]; !ok {
			faults[at] = err
		}
	}
	return faults
}

// drop closes the sockets that are for what isn't wanted any more.
func (p *Ports) drop(want []netip.AddrPort) {
	wanted := make(map[netip.AddrPort]bool, len(want)+1)
	wanted[netip.AddrPort{}] = true
	for _, at := range want {
		wanted[at] = true
	}
	for at, socket := range p.sockets {
		if !wanted[at] {
			_ = socket.Close() // it is gone either way
			delete(p.sockets, at)
		}
	}
}

// serve hands on what one socket accepts, until that is closed.
func (p *Ports) serve(socket Socket) {
	for {
		conn, err := socket.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // most likely out of file descriptors: wait for some to be free
			select {
			case <-p.closed:
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		select {
		case p.accepted <- conn:
		case <-p.closed:
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // a reset: an end would be an empty answer
			}
			_ = conn.Close() // nobody asks for it any more
			return
		}
	}
}

// Accept returns the next connection; its LocalAddr tells what it is for. It
// returns net.ErrClosed after Close.
func (p *Ports) Accept() (net.Conn, error) {
	select {
	case conn := <-p.accepted:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close stops accepting for good, and returns when nothing of it runs. It may be
// called more than once.
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
	p.serving.Wait()
	return errors.Join(slices.DeleteFunc(errs, func(err error) bool { return err == nil })...)
}
