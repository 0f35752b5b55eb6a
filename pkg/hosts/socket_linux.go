package hosts

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// notThere tells whether no file can be made in a folder, though one in it may be
// writable: a container's hosts file is one in a folder that may be read-only, and a disk
// that is full may have room in it for what is shorter.
func notThere(err error) bool {
	return diskFull(err) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)
}

// acquireSocket takes a lock that needs no file: a socket in the abstract namespace
// (unix(7)) that is named by the hosts file's inode, so that the containers of one pod,
// which share both, have the same. The kernel frees it with its process.
func acquireSocket(path, kind string) (*lock, error) {
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
		err = fmt.Errorf("%w; end that one first", ErrInUse)
	}
	if err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	return &lock{socket: socket}, nil
}
