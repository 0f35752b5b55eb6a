//go:build !linux

package listen

import "runtime"

// UnprivilegedPortStart returns the lowest port that doesn't need root. On
// Windows no port does.
func UnprivilegedPortStart() int {
	if runtime.GOOS == "windows" {
		return 1
	}
	return 1024
}
