//go:build !windows

package listen

import "syscall"

// The errors of bind(2), listen(2) and accept(2) that are explained to the user.
const (
	errInUse        = syscall.EADDRINUSE
	errNotPermitted = syscall.EACCES
	errTooManyFiles = syscall.EMFILE
	notPermitted    = "needs root"
)
