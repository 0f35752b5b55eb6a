//go:build !windows

package listen

import (
	"math"

	"golang.org/x/sys/unix"
)

// fileLimit returns how many files this process can have open.
func fileLimit() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return math.MaxInt
	}
	return int(min(limit.Cur, math.MaxInt32))
}
