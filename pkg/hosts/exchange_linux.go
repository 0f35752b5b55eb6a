package hosts

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// renameOver moves the file at temp to path. If the file system supports it, the
// two files are exchanged (renameat2(2), RENAME_EXCHANGE), and temp then has the
// file that was at path at that moment. Otherwise that file is gone.
func renameOver(temp, path string) (exchanged bool, err error) {
	err = unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, path, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return false, os.Rename(temp, path)
	}
	if err != nil {
		err = &os.LinkError{Op: "exchange", Old: temp, New: path, Err: err}
	}
	return err == nil, err
}
