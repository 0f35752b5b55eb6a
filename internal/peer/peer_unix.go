//go:build linux || darwin

// Package peer identifies the process at the other end of a unix socket.
package peer

import "net"

// UID returns the user ID of the process that opened the other end of conn.
func UID(conn *net.UnixConn) (int, error) { return query(conn, uid) }

// PID returns the ID of the process that opened the other end of conn. On Linux
// it is 0 if that process is in a PID namespace that isn't visible from here.
func PID(conn *net.UnixConn) (int, error) { return query(conn, pid) }

// query calls option with conn's file descriptor.
func query(conn *net.UnixConn, option func(fd int) (int, error)) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var id int
	var optionErr error
	if err := raw.Control(func(fd uintptr) { id, optionErr = option(int(fd)) }); err != nil {
		return 0, err
	}
	return id, optionErr
}
