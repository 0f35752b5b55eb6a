package hosts

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// isMountPoint reports whether a file is mounted separately from its directory (statx(2)).
func isMountPoint(path string) bool {
	var file, dir unix.Statx_t
	err1 := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &file)
	err2 := unix.Statx(unix.AT_FDCWD, filepath.Dir(path), 0, unix.STATX_MNT_ID, &dir)
	return err1 == nil && err2 == nil && file.Mnt_id != dir.Mnt_id
}
