package peer

import (
	"errors"
	"io/fs"
	"syscall"
)

// MaxPath is the longest path that a unix socket may have, in bytes (unix(7)).
const MaxPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// wsaRefused is ECONNREFUSED as Windows' sockets return it. No other system has this error.
const wsaRefused = syscall.Errno(10061)

// NotListening reports whether err, of dialing a unix socket, means that nobody listens there.
func NotListening(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, wsaRefused)
}
