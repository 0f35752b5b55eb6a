// Package peer identifies the process at the other end of a unix socket.
package peer

import (
	"errors"
	"net"
)

// UID returns errors.ErrUnsupported: Windows doesn't report the peer's user.
func UID(*net.UnixConn) (int, error) { return 0, errors.ErrUnsupported }

// PID returns errors.ErrUnsupported.
func PID(*net.UnixConn) (int, error) { return 0, errors.ErrUnsupported }
