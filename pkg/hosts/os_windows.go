package hosts

import (
	"errors"
	"os"
	"path/filepath"

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
