//go:build !windows

package cli

import (
	"os"

	"golang.org/x/sys/unix"
)

// inForeground tells whether a terminal is for the job that this process belongs to
// (tcgetpgrp(3)); where that isn't known, too.
func inForeground(terminal *os.File) bool {
	group, err := unix.IoctlGetInt(int(terminal.Fd()), unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}
