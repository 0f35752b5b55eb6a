//go:build !linux

package listen

import "net"

// socketDiag is empty: this system isn't asked about sockets.
type socketDiag struct{}

func (*socketDiag) close() {}

// Orphaned reports whether the client of conn has closed its socket. On this
// system that isn't known, and Orphaned returns false.
func (*Clients) Orphaned(net.Conn) bool { return false }

// ownerOf reports that the client's user isn't known.
func (*Clients) ownerOf(net.Conn) (uid uint32, known bool) { return 0, false }
