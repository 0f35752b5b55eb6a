package listen

import "golang.org/x/sys/windows"

// Why the system doesn't let us listen.
const (
	errInUse   = windows.WSAEADDRINUSE
	errNoRight = windows.WSAEACCES
)
