//go:build !windows

package kube

import (
	"os"

	"golang.org/x/sys/unix"
)

// openPipe opens a path that can be read only once. A descriptor of this process is
// duplicated: it may be another user's pipe, which can't be opened again.
func openPipe(path string) (*os.File, error) {
	fd, ok := Descriptor(path)
	if !ok {
		return os.Open(path)
	}
	duplicate, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(duplicate), path), nil
}
