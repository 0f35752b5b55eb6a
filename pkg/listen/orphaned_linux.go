package listen

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
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
// then often reports root instead, before Linux 6.17 always. It is false too if the
// connection has been reset: its client's port may belong to somebody else by now.
func (c *Clients) ownerOf(conn net.Conn) (uid uint32, known bool) {
	client, err := c.diag.clientOf(conn)
	// In this order: as long as our end exists, nobody else can connect from the port.
	if err != nil || client.inode == 0 && client.uid == 0 || !exists(conn) {
		return 0, false
	}
	return client.uid, true
}

// exists reports whether this end of a TCP connection has neither been reset nor
// closed.
func exists(conn net.Conn) bool {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	open := false
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		open = err == nil && (info.State == unix.BPF_TCP_ESTABLISHED || info.State == unix.BPF_TCP_CLOSE_WAIT)
	})
	return err == nil && open
}
