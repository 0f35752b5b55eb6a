package tunnel

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// lowWaterReader reads from a connection once many bytes are available
// (SO_RCVLOWAT). During a fast transfer it blocks a thread for a moment, which
// costs one thread switch; parking a goroutine costs several.
type lowWaterReader struct {
	raw    syscall.RawConn // nil if the connection has no file descriptor
	once   func(fd uintptr) bool
	buf    []byte
	polled [1]unix.PollFd
	n      int
	err    error
}

func (r *lowWaterReader) init(conn net.Conn) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	r.raw = raw
	r.once = func(fd uintptr) bool { // allocated once, called for every read
		r.n, r.err = r.pollAndRead(int(fd))
		return true
	}
}

// start sets the low-water mark and reports whether read can be used.
func (r *lowWaterReader) start() bool { return r.raw != nil && r.setLowWater(lowWater) == nil }

// setLowWater sets how many bytes must be available before a reader wakes up.
func (r *lowWaterReader) setLowWater(bytes int) error {
	var failed error
	err := r.raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, bytes)
	})
	return errors.Join(err, os.NewSyscallError("setsockopt", failed))
}

// read waits up to bulkWindow for lowWater bytes and reads those available,
// possibly none. If there are fewer than lowWater, it resets the low-water mark.
// Only one goroutine may call it at a time.
func (r *lowWaterReader) read(p []byte) (int, error) {
	r.buf = p
	err := r.raw.Read(r.once)
	r.buf = nil
	if err = errors.Join(err, r.err); r.n < lowWater && err == nil {
		err = r.setLowWater(1)
	}
	return r.n, err
}

func (r *lowWaterReader) pollAndRead(fd int) (int, error) {
	r.polled[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	_, err := unix.Poll(r.polled[:], int(bulkWindow.Milliseconds()))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return 0, os.NewSyscallError("poll", err)
	}
	n, err := unix.Read(fd, r.buf)
	return readResult(n, err)
}

// acked returns how many bytes the other side's kernel has acknowledged
// (TCP_INFO, see tcp(7)).
func (r *lowWaterReader) acked() (bytes uint64, known bool) {
	if r.raw == nil {
		return 0, false
	}
	_ = r.raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			bytes, known = info.Bytes_acked, true
		}
	})
	return bytes, known
}

// readResult converts the result of read(2) to that of an io.Reader.
func readResult(n int, err error) (int, error) {
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return 0, nil
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}
