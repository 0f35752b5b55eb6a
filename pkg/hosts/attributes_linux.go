package hosts

import (
	"os"

	"golang.org/x/sys/unix"
)

// isSystems tells whether an attribute is for the system alone to set.
func isSystems(string) bool { return false }

// allocate has the file system keep room for size bytes of a file, which doesn't
// grow by that (fallocate(2)).
func allocate(file *os.File, size int64) error {
	return unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
}
