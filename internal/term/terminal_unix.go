//go:build !windows

package term

import (
	"os"

	"golang.org/x/sys/unix"
)

// isForeground reports whether this process is in the terminal's foreground
// process group (tcgetpgrp(3)). It is true if that can't be determined.
func isForeground(terminal *os.File) bool {
	group, err := unix.IoctlGetInt(int(terminal.Fd()), unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}

// ttyPath is the path of the process's terminal.
const ttyPath = "/dev/tty"
