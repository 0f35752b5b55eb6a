// Package listen accepts connections to a set of loopback addresses and ports.
// It knows nothing of what is behind them.
//
// It has two halves, which may be in two processes: a [Taker] takes addresses and
// ports, which may need root, and [Ports] accepts what comes to them.
package listen

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
)

// Taker takes addresses and ports of this machine.
type Taker interface {
	// Take makes want the whole set that is taken; have is what the caller has
	// sockets for (Socket.For). It returns the sockets that are missing, which the
	// caller owns, and why for the ports that can't be had; the error is the fault
	// of them all. What is no longer wanted the caller must have closed before. It
	// may be called again to try those anew that could not be had, or were lost.
	Take(ctx context.Context, want, have []netip.AddrPort) (taken []Socket, faults map[netip.AddrPort]error, err error)
	// How says in words how ports are taken.
	How() string
	// Close lets go of all that is taken. It may be called more than once.
	Close() error
}

// Socket is a socket that connections are accepted from.
type Socket struct {
	For netip.AddrPort // zero: all that are taken
	*net.TCPListener
}

// NewSocket returns the socket that a file is, which it doesn't close.
func NewSocket(of netip.AddrPort, file *os.File) (Socket, error) {
	l, err := net.FileListener(file)
	if err != nil {
		return Socket{}, err
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		_ = l.Close() // it is somebody's mistake
		return Socket{}, fmt.Errorf("a socket of %v, not of TCP", l.Addr().Network())
	}
	return Socket{of, tcp}, nil
}

// listenTCP listens at an address. MPTCP has no second path on one machine, and
// its sockets can't be looked up by a program of the kernel.
func listenTCP(ctx context.Context, at netip.AddrPort) (*net.TCPListener, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	l, err := config.Listen(ctx, "tcp4", at.String())
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil //nolint:forcetypeassert // as net documents it
}

// Mode is how ports are to be taken. It is a flag's value.
type Mode string

// The modes.
const (
	ModeAuto   Mode = "auto"   // the first of the others that can be had
	ModeLookup Mode = "lookup" // one socket for all ports
	ModeEach   Mode = "each"   // a socket for each port
)

// String returns the mode's name.
func (m *Mode) String() string {
	if *m == "" {
		return string(ModeAuto)
	}
	return string(*m)
}

// Set takes the name of a mode.
func (m *Mode) Set(name string) error {
	switch mode := Mode(name); mode {
	case ModeAuto, ModeLookup, ModeEach:
		*m = mode
		return nil
	}
	return fmt.Errorf("must be %s, %s or %s", ModeAuto, ModeLookup, ModeEach)
}

// Type names the modes, for the flag's help.
func (*Mode) Type() string { return "auto|lookup|each" }

// Open returns what takes ports in that mode. An error means that the mode can't
// be had here.
func Open(ctx context.Context, mode Mode) (Taker, error) {
	if mode == ModeEach {
		return NewEach("as asked for"), nil
	}
	lookup, err := newLookup(ctx)
	switch {
	case err == nil:
		return lookup, nil
	case mode == ModeLookup:
		return nil, fmt.Errorf("one socket for all ports: %w", err)
	}
	return NewEach(err.Error()), nil
}
