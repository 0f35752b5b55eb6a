//go:build linux || darwin

package tunnel

import (
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxIovecs is the limit of writev(2) on both systems (IOV_MAX).
const maxIovecs = 1024

// notSentLowWater bounds the unsent bytes in the kernel while the client's receive
// window is full.
const notSentLowWater = 256 << 10

// nonblockingWriter writes to a connection without blocking.
type nonblockingWriter struct {
	raw    syscall.RawConn // nil if the connection has no file descriptor
	once   func(fd uintptr) bool
	chunks [][]byte
	n      int
	err    error
}

func (w *nonblockingWriter) init(conn net.Conn) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	w.raw = raw
	// This makes the progress of slow readers visible: by default, a writer is
	// woken only when a third of the buffer, which may be megabytes, is free.
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSentLowWater)
	})
	w.once = func(fd uintptr) bool { // allocated once, called for every frame
		if len(w.chunks) == 1 {
			w.n, w.err = unix.Write(int(fd), w.chunks[0])
		} else {
			w.n, w.err = unix.Writev(int(fd), w.chunks)
		}
		return true
	}
}

// write writes as much as fits without blocking. Only one goroutine may call it
// at a time.
func (w *nonblockingWriter) write(chunks [][]byte) (int, error) {
	if w.raw == nil {
		return 0, nil
	}
	w.chunks = chunks[:min(len(chunks), maxIovecs)]
	err := w.raw.Write(w.once)
	w.chunks = nil
	switch {
	case err != nil:
		return 0, err
	case errors.Is(w.err, unix.EAGAIN) || errors.Is(w.err, unix.EINTR):
		return 0, nil
	case w.err != nil:
		return max(w.n, 0), os.NewSyscallError("write", w.err)
	}
	return w.n, nil
}
