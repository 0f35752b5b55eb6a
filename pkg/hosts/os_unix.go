//go:build !windows

package hosts

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// DefaultPath returns the path of the system's hosts file.
func DefaultPath() string { return "/etc/hosts" }

// copyOwner sets the owner and group of a file to those in info.
func copyOwner(file *os.File, info os.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.ErrUnsupported
	}
	return file.Chown(int(stat.Uid), int(stat.Gid))
}

// syncDir flushes a directory, so that a rename in it survives a power loss.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// isDiskFull reports whether a write failed for lack of space or quota.
func isDiskFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// IsReadOnly reports whether an error means that the file system is read-only.
func IsReadOnly(err error) bool { return errors.Is(err, unix.EROFS) }

// canReadReplaced reports whether a file can be replaced while it is open, and
// still be read through the open descriptor.
const canReadReplaced = true

// canWriteInPlace reports whether a file that can't be replaced because of err may
// still be writable in place, e.g. a bind mount, or a file in a read-only directory.
func canWriteInPlace(err error) bool {
	reasons := []error{unix.EBUSY, unix.EXDEV, unix.EROFS, unix.EACCES, unix.EPERM, unix.ENOTSUP, unix.EISDIR, unix.ENOTEMPTY}
	return slices.ContainsFunc(reasons, func(reason error) bool { return errors.Is(err, reason) })
}

// openLockFile opens or creates a lock file, which must not be a symbolic link.
// Other users can't open it: opening it is all they would need to lock it (flock(2)).
func openLockFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
}

// lockHandle locks an open file without waiting. It returns ErrInUse if another
// process holds the lock.
func lockHandle(file *os.File) error {
	err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrInUse
	}
	return err
}

// removeLockFile removes a lock file while the lock is still held.
func removeLockFile(file *os.File) error { return os.Remove(file.Name()) }

// explain adds the likely reason to an error whose text doesn't give it.
func explain(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w (the file may be immutable; check with lsattr, or ls -lO on macOS)", err)
	}
	return err
}
