//go:build linux || darwin

package tunnel

import (
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxIovecs is how many parts one writev(2) takes (IOV_MAX of both systems).
const maxIovecs = 1024

// notSentLowWater is how much may wait in the kernel for a client that has no room.
const notSentLowWater = 256 << 10

// nonblockingWriter writes to a connection without waiting.
type nonblockingWriter struct {
	raw    syscall.RawConn // nil if the connection is none of the system's
	once   func(fd uintptr) bool
	chunks [][]byte
	n      int
	err    error
}

func (a *nonblockingWriter) init(conn net.Conn) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	a.raw = raw
	// A client that reads slowly is seen to read: without this a writer is woken
	// only when a third of the buffer, which may be megabytes, is free.
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSentLowWater)
	})
	a.once = func(fd uintptr) bool { // made once: it is called for every frame
		if len(a.chunks) == 1 {
			a.n, a.err = unix.Write(int(fd), a.chunks[0])
		} else {
			a.n, a.err = unix.Writev(int(fd), a.chunks)
		}
		return true
	}
}

// write is for one goroutine at a time.
func (a *nonblockingWriter) write(chunks [][]byte) (int, error) {
	if a.raw == nil {
		return 0, nil
	}
	a.chunks = chunks[:min(len(chunks), maxIovecs)]
	err := a.raw.Write(a.once)
	a.chunks = nil
	switch {
	case err != nil:
		return 0, err
	case errors.Is(a.err, unix.EAGAIN) || errors.Is(a.err, unix.EINTR):
		return 0, nil
	case a.err != nil:
		return max(a.n, 0), os.NewSyscallError("write", a.err)
	}
	return a.n, nil
}
