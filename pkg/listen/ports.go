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
	"syscall"
	"time"
)

const (
	// acceptRetryInterval is the interval between attempts after a failed accept(2).
	acceptRetryInterval = 50 * time.Millisecond
	// acceptReportInterval is the minimum interval between two reports of a failed
	// accept(2).
	acceptReportInterval = time.Minute
)

// Ports accepts connections to the ports of a [Taker]. Its methods are safe for
// concurrent use. The exported fields must be set before Set, and not changed
// afterwards.
type Ports struct {
	// Admits reports whether an accepted connection is passed on to Accept; others
	// are reset. It must return quickly. If nil, all are.
	Admits func(net.Conn) bool
	// AcceptFailed is called with an error when connections can't be accepted, and
	// with nil when they can again. It may be nil.
	AcceptFailed func(error)

	taker       Taker
	accepted    chan net.Conn
	closed      chan struct{}
	acceptLoops sync.WaitGroup // one for each socket

	mu      sync.Mutex
	sockets map[netip.AddrPort]Socket // by Socket.For; nil once closed

	failureMu  sync.Mutex
	failing    int       // sockets whose last accept(2) failed
	reported   bool      // AcceptFailed was called with an error, and not with nil since
	reportedAt time.Time // when it was last called with an error
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
	failing := false
	defer func() { p.recordAccept(&failing, nil) }()
	for {
		conn, err := socket.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		p.recordAccept(&failing, err)
		if err != nil {
			select {
			case <-p.closed:
			case <-time.After(acceptRetryInterval):
			}
			continue
		}
		if p.Admits != nil && !p.Admits(conn) {
			reset(conn)
			continue
		}
		select {
		case p.accepted <- conn:
		case <-p.closed:
			reset(conn) // a FIN would look like an empty response
			return
		}
	}
}

// reset closes a connection with a reset.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close() // closed even on an error
}

// recordAccept records the result of accept(2) on a socket, and in failing whether
// it failed.
func (p *Ports) recordAccept(failing *bool, err error) {
	if err == nil && !*failing || p.AcceptFailed == nil {
		return
	}
	p.failureMu.Lock()
	defer p.failureMu.Unlock()
	switch {
	case err != nil && !*failing:
		p.failing++
	case err == nil:
		p.failing--
	}
	*failing = err != nil
	switch {
	case err != nil && !p.reported && (p.reportedAt.IsZero() || time.Since(p.reportedAt) >= acceptReportInterval):
		p.reported, p.reportedAt = true, time.Now()
		p.AcceptFailed(explainAccept(err))
	case p.failing == 0 && p.reported:
		p.reported = false
		p.AcceptFailed(nil)
	}
}

// explainAccept returns an error that states why accept(2) failed.
func explainAccept(err error) error {
	text := "accept connections: "
	if cause := syscall.Errno(0); errors.As(err, &cause) {
		err = cause // without the address of one of the sockets
	}
	if errors.Is(err, errTooManyFiles) {
		return fmt.Errorf(text+"%w; raise this process's limit of open files (ulimit -n)", err)
	}
	return fmt.Errorf(text+"%w", err)
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
