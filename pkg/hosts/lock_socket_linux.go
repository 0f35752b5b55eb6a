package hosts

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// cannotCreateFile reports whether err means that the directory doesn't accept new
// files. An existing file in it may be writable all the same: a container's hosts
// file can be in a read-only directory, and a shorter file still fits on a full disk.
func cannotCreateFile(err error) bool {
	return isDiskFull(err) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)
}

// tryAcquireSocket takes a lock that needs no file: it binds a socket in the abstract
// namespace (unix(7)). The socket's name has the inode of the hosts file in it, so
// that the containers of a pod, which share both, use the same name. The kernel
// closes the socket when the process ends.
func tryAcquireSocket(path, kind string) (*fileLock, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	socket := os.NewFile(uintptr(fd), "lock")
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("@kubeshore-%d-%d-%s", stat.Dev, stat.Ino, kind)})
	if errors.Is(err, unix.EADDRINUSE) {
		err = fmt.Errorf("%w; stop it first", ErrInUse)
	}
	if err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	return &fileLock{socket: socket}, nil
}
