// Package netaddr complements net/netip.
package netaddr

import (
	"net"
	"net/netip"
)

// Localhost is 127.0.0.1: where the names of services that run on this machine
// point.
var Localhost = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// AddrPort returns the address and port of one end of a TCP connection, with an
// IPv4 address in its 4-byte form. It is the zero AddrPort if a is not a
// *net.TCPAddr.
func AddrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	at := tcp.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}
