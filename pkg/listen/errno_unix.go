//go:build !windows

package listen

import "syscall"

// The errors of bind(2) and listen(2) that are explained to the user.
const (
	errInUse        = syscall.EADDRINUSE
	errNotPermitted = syscall.EACCES
	notPermitted    = "needs root"
)
