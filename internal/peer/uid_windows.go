package peer

import (
	"errors"
	"net"
)

// UID returns errors.ErrUnsupported: Windows doesn't tell.
func UID(*net.UnixConn) (int, error) { return 0, errors.ErrUnsupported }

// PID returns errors.ErrUnsupported.
func PID(*net.UnixConn) (int, error) { return 0, errors.ErrUnsupported }
