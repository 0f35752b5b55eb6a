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

// DefaultPath returns where the system's hosts file is.
func DefaultPath() string { return "/etc/hosts" }

// ownLike gives the file the owner of another.
func ownLike(file *os.File, like os.FileInfo) error {
	stat, ok := like.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.ErrUnsupported
	}
	return file.Chown(int(stat.Uid), int(stat.Gid))
}

// syncDir makes a rename in the folder last through a loss of power.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// diskFull tells whether there was no room to write.
func diskFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// replacesOpen tells whether a file can be replaced that is open, and be read after.
const replacesOpen = true

// canOverwrite tells whether a file that can't be replaced for that reason may still be
// written in place: as a bind mount, or where nothing can be made beside it.
func canOverwrite(err error) bool {
	reasons := []error{unix.EBUSY, unix.EXDEV, unix.EROFS, unix.EACCES, unix.EPERM, unix.ENOTSUP, unix.EISDIR, unix.ENOTEMPTY}
	return slices.ContainsFunc(reasons, func(reason error) bool { return errors.Is(err, reason) })
}

// openLock opens a lock's file, which must not be a link to another. Nobody else may
// open it: to have it locked it takes no more than that (flock(2)).
func openLock(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
}

func tryLock(file *os.File) error {
	err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrInUse
	}
	return err
}

// removeHeld removes a lock's file while it is still held.
func removeHeld(file *os.File) error { return os.Remove(file.Name()) }

// explain adds to an error what the system's words leave open.
func explain(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w (it may have been made immutable: lsattr or ls -lO shows that)", err)
	}
	return err
}
