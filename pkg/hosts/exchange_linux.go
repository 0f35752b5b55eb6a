package hosts

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// replaceBy puts the file at temp to path. If exchanged, temp then has the file that was
// there, whoever had put it there (renameat2(2), RENAME_EXCHANGE); else that is gone, as
// the file system can't exchange files.
func replaceBy(temp, path string) (exchanged bool, err error) {
	err = unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, path, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return false, os.Rename(temp, path)
	}
	if err != nil {
		err = &os.LinkError{Op: "exchange", Old: temp, New: path, Err: err}
	}
	return err == nil, err
}
