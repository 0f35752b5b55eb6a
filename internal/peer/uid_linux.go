// Package peer tells who is at the other end of a unix socket.
package peer

import (
	"net"

	"golang.org/x/sys/unix"
)

// UID returns who the process is that made the other end of conn (unix(7),
// SO_PEERCRED).
func UID(conn *net.UnixConn) (int, error) {
	peer, err := credentials(conn)
	if err != nil {
		return 0, err
	}
	return int(peer.Uid), nil
}

// PID returns the ID of that process; 0 if it has none here.
func PID(conn *net.UnixConn) (int, error) {
	peer, err := credentials(conn)
	if err != nil {
		return 0, err
	}
	return int(peer.Pid), nil
}

func credentials(conn *net.UnixConn) (*unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var peer *unix.Ucred
	var e error
	if err := raw.Control(func(fd uintptr) { peer, e = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return nil, err
	}
	return peer, e
}
