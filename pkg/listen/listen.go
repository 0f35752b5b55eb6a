// Package listen accepts connections to a set of loopback addresses and ports.
//
// It has two parts, which may run in two processes: a [Taker] opens the sockets,
// which may need root, and [Ports] accepts connections from them.
package listen

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
)

// Taker opens the sockets for a set of addresses and ports.
type Taker interface {
	// Take makes want the set of ports that connections are accepted for. existing
	// lists the sockets (Socket.For) that the caller already has; the caller must
	// have closed those for ports that are not in want. Take returns the missing
	// sockets, which the caller then owns, and an error for each port that isn't
	// available. err concerns all ports. Calling Take again retries ports that
	// failed and reopens sockets that the caller has lost.
	Take(ctx context.Context, want, existing []netip.AddrPort) (sockets []Socket, portErrors map[netip.AddrPort]error, err error)
	// How describes how the Taker listens.
	How() string
	// Close releases all ports. It may be called more than once.
	Close() error
}

// Socket is a listening socket.
type Socket struct {
	For netip.AddrPort // the zero AddrPort if the socket is for all ports
	*net.TCPListener
}

// NewSocket returns a Socket for a file, which it doesn't close.
func NewSocket(at netip.AddrPort, file *os.File) (Socket, error) {
	l, err := net.FileListener(file)
	if err != nil {
		return Socket{}, err
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		_ = l.Close() // nothing was accepted from it
		return Socket{}, fmt.Errorf("not a TCP socket: %s", l.Addr().Network())
	}
	return Socket{at, tcp}, nil
}

// listenTCP listens at an address and port. It doesn't use MPTCP: on one machine
// there is no second path, and sk_lookup doesn't support it.
func listenTCP(ctx context.Context, at netip.AddrPort) (*net.TCPListener, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	l, err := config.Listen(ctx, "tcp4", at.String())
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil //nolint:forcetypeassert // as documented by net
}

// Mode selects a [Taker]. It is the value of a flag.
type Mode string

// The modes.
const (
	ModeAuto   Mode = "auto"   // ModeLookup where it is available, else ModeEach
	ModeLookup Mode = "lookup" // one socket for all ports
	ModeEach   Mode = "each"   // one socket per port
)

// String returns the name of the mode.
func (m *Mode) String() string {
	if *m == "" {
		return string(ModeAuto)
	}
	return string(*m)
}

// Set sets the mode by its name.
func (m *Mode) Set(name string) error {
	switch mode := Mode(name); mode {
	case ModeAuto, ModeLookup, ModeEach:
		*m = mode
		return nil
	}
	return fmt.Errorf("must be %s, %s or %s", ModeAuto, ModeLookup, ModeEach)
}

// Type lists the modes, for the help of the flag.
func (*Mode) Type() string { return "auto|lookup|each" }

// Open returns the [Taker] for a mode. It returns an error if the mode isn't
// available on this machine.
func Open(ctx context.Context, mode Mode) (Taker, error) {
	if mode == ModeEach {
		return NewEach("as requested"), nil
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
