//go:build !linux

package listen

import "runtime"

// LeastPort returns the least port that needs no root. Windows has none that does.
func LeastPort() int {
	if runtime.GOOS == "windows" {
		return 1
	}
	return 1024
}
