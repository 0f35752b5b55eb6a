package hosts

import (
	"os"

	"golang.org/x/sys/unix"
)

// isSystemAttribute reports whether only the system can set the attribute.
func isSystemAttribute(string) bool { return false }

// preallocate reserves disk space for size bytes of the file without changing
// its length (fallocate(2)).
func preallocate(file *os.File, size int64) error {
	return unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
}
