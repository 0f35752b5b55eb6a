// Package listen accepts connections to a set of loopback addresses and ports.
// It knows nothing of what is behind them.
package listen

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Each has a listening socket for each address and port. Its methods may be
// called by several goroutines at once.
type Each struct {
	config   net.ListenConfig
	accepted chan net.Conn
	closed   chan struct{}
	serving  sync.WaitGroup // one for each listener

	mu        sync.Mutex
	listeners map[netip.AddrPort]net.Listener // nil once closed
}

// NewEach returns an Each that doesn't listen anywhere yet.
func NewEach() *Each {
	e := &Each{
		accepted:  make(chan net.Conn),
		closed:    make(chan struct{}),
		listeners: make(map[netip.AddrPort]net.Listener),
	}
	// Plain TCP: both ends are on this machine, where MPTCP has no second path.
	e.config.SetMultipathTCP(false)
	return e
}

// Set makes want the whole set that is listened on. It returns why for those
// that could not be had; a further call with the same set tries them anew.
// Connections that were accepted already are not touched.
func (e *Each) Set(ctx context.Context, want []netip.AddrPort) map[netip.AddrPort]error {
	e.mu.Lock()
	defer e.mu.Unlock()
	faults := make(map[netip.AddrPort]error)
	if e.listeners == nil {
		for _, at := range want {
			faults[at] = net.ErrClosed
		}
		return faults
	}
	wanted := make(map[netip.AddrPort]bool, len(want))
	for _, at := range want {
		wanted[at] = true
	}
	for at, l := range e.listeners {
		if !wanted[at] {
			_ = l.Close() // its socket is gone either way
			delete(e.listeners, at)
		}
	}
	for _, at := range want {
		if _, ok := e.listeners[at]; ok {
			continue
		}
		l, err := e.config.Listen(ctx, "tcp4", at.String())
		if err != nil {
			faults[at] = explain(at, err)
			continue
		}
		e.listeners[at] = l
		e.serving.Go(func() { e.serve(l) })
	}
	return faults
}

// explain says in a line why an address and port can't be had.
func explain(at netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, errInUse):
		return fmt.Errorf("port %d of %v is in use by another program", at.Port(), at.Addr())
	case errors.Is(err, errNoRight):
		return fmt.Errorf("port %d of %v needs root", at.Port(), at.Addr())
	}
	return err
}

// serve hands on what one listener accepts, until that is closed.
func (e *Each) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // most likely out of file descriptors: wait for some to be free
			select {
			case <-e.closed:
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		select {
		case e.accepted <- conn:
		case <-e.closed:
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
func (e *Each) Accept() (net.Conn, error) {
	select {
	case conn := <-e.accepted:
		return conn, nil
	case <-e.closed:
		return nil, net.ErrClosed
	}
}

// Close stops listening for good, and returns when nothing of it runs. It may
// be called more than once.
func (e *Each) Close() error {
	e.mu.Lock()
	var errs []error
	if e.listeners != nil {
		close(e.closed)
		for l := range maps.Values(e.listeners) {
			errs = append(errs, l.Close())
		}
		e.listeners = nil
	}
	e.mu.Unlock()
	e.serving.Wait()
	return errors.Join(slices.DeleteFunc(errs, func(err error) bool { return err == nil })...)
}
