package peer

import (
	"net"

	"golang.org/x/sys/unix"
)

// UID returns who the process is that made the other end of conn (unix(4),
// LOCAL_PEERCRED).
func UID(conn *net.UnixConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *unix.Xucred
	var e error
	if err := raw.Control(func(fd uintptr) { peer, e = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED) }); err != nil {
		return 0, err
	}
	if e != nil {
		return 0, e
	}
	return int(peer.Uid), nil
}

// PID returns the ID of that process (LOCAL_PEERPID).
func PID(conn *net.UnixConn) (pid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var e error
	if err := raw.Control(func(fd uintptr) { pid, e = unix.GetsockoptInt(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERPID) }); err != nil {
		return 0, err
	}
	return pid, e
}
