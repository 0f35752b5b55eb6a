package hosts

import (
	"errors"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/windows"
)

// DefaultPath returns the path of the system's hosts file.
func DefaultPath() string {
	// Not from the environment: this process has administrator rights.
	system, err := windows.GetSystemDirectory()
	if err != nil {
		system = `C:\Windows\System32`
	}
	return filepath.Join(system, "drivers", "etc", "hosts")
}

// copyOwner does nothing: like the hosts file itself, a new file inherits the owner
// and the access list of its directory.
func copyOwner(*os.File, os.FileInfo) error { return nil }

// syncDir does nothing: Windows can't flush a directory.
func syncDir(string) error { return nil }

// isDiskFull reports whether a write failed for lack of space.
func isDiskFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

// IsReadOnly reports whether an error means that the file system is read-only.
func IsReadOnly(err error) bool { return errors.Is(err, windows.ERROR_WRITE_PROTECT) }

// canReadReplaced reports whether a file can be replaced while it is open. The mode
// in which Go opens files does not allow that.
const canReadReplaced = false

// canWriteInPlace reports whether a file that can't be replaced because of err may
// still be writable in place, e.g. because another program has it open, or because
// its directory is read-only.
func canWriteInPlace(err error) bool {
	reasons := []error{
		windows.ERROR_ACCESS_DENIED, windows.ERROR_SHARING_VIOLATION, windows.ERROR_LOCK_VIOLATION,
		windows.ERROR_WRITE_PROTECT, windows.ERROR_NOT_SAME_DEVICE, windows.ERROR_DIR_NOT_EMPTY,
	}
	return slices.ContainsFunc(reasons, func(reason error) bool { return errors.Is(err, reason) })
}

// openLockFile opens or creates a lock file.
func openLockFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
}

// lockHandle locks an open file without waiting. It returns ErrInUse if another
// process holds the lock.
func lockHandle(file *os.File) error {
	// A locked range can't be read, so lock one byte far behind the process ID.
	err := windows.LockFileEx(windows.Handle(file.Fd()),
		windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &windows.Overlapped{Offset: 1 << 20})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return ErrInUse
	}
	return err
}

// removeLockFile leaves the file in place: Windows can't remove an open file.
func removeLockFile(*os.File) error { return nil }

// explain returns err unchanged: the system's text is sufficient.
func explain(err error) error { return err }
