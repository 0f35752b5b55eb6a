package hosts

import (
	"errors"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/windows"
)

// DefaultPath returns where the system's hosts file is.
func DefaultPath() string {
	system, err := windows.GetSystemDirectory() // not by the environment: this process has an administrator's rights
	if err != nil {
		system = `C:\Windows\System32`
	}
	return filepath.Join(system, "drivers", "etc", "hosts")
}

// ownLike does nothing: a new file in the folder inherits the folder's owner and
// access list, as the hosts file itself did.
func ownLike(*os.File, os.FileInfo) error { return nil }

// syncDir does nothing: folders can't be flushed on Windows.
func syncDir(string) error { return nil }

// diskFull tells whether there was no room to write.
func diskFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

// replacesOpen tells whether a file can be replaced that is open: not as Go opens it.
const replacesOpen = false

// canOverwrite tells whether a file that can't be replaced for that reason may still be
// written in place: where another program has it open, or nothing can be made beside it.
func canOverwrite(err error) bool {
	reasons := []error{
		windows.ERROR_ACCESS_DENIED, windows.ERROR_SHARING_VIOLATION, windows.ERROR_LOCK_VIOLATION,
		windows.ERROR_WRITE_PROTECT, windows.ERROR_NOT_SAME_DEVICE, windows.ERROR_DIR_NOT_EMPTY,
	}
	return slices.ContainsFunc(reasons, func(reason error) bool { return errors.Is(err, reason) })
}

// openLock opens a lock's file.
func openLock(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
}

func tryLock(file *os.File) error {
	// One byte far behind what is written: a locked range can't be read.
	err := windows.LockFileEx(windows.Handle(file.Fd()),
		windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &windows.Overlapped{Offset: 1 << 20})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return ErrInUse
	}
	return err
}

// removeHeld leaves the file: Windows doesn't remove one that is open.
func removeHeld(*os.File) error { return nil }

// explain has nothing to add to the system's words.
func explain(err error) error { return err }
