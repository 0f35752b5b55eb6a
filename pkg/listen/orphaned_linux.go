package listen

import (
	"errors"
	"net"
)

// Orphaned reports whether the client of conn has closed its socket or exited,
// as opposed to having only shut down its sending side with shutdown(2): both
// look the same on the wire. conn must have been accepted from a client on this
// machine. Orphaned asks the kernel, which takes a few microseconds and needs no
// privileges. It returns false if the answer isn't known, which is always the
// case on systems other than Linux.
func (c *Clients) Orphaned(conn net.Conn) bool {
	client, err := c.diag.clientOf(conn)
	return errors.Is(err, errNoSocket) || err == nil && client.inode == 0
}

// ownerOf returns the user whose process opened the client's socket of an
// accepted connection. known is false if the socket is no longer open: the kernel
// then often reports root instead, before Linux 6.17 always.
func (c *Clients) ownerOf(conn net.Conn) (uid uint32, known bool) {
	client, err := c.diag.clientOf(conn)
	return client.uid, err == nil && (client.inode != 0 || client.uid != 0)
}
