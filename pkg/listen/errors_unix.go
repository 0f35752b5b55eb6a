//go:build !windows

package listen

import "syscall"

// Why the system doesn't let us listen.
const (
	errInUse   = syscall.EADDRINUSE
	errNoRight = syscall.EACCES
	noRight    = "needs root"
)
