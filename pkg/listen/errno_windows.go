package listen

import "golang.org/x/sys/windows"

// The errors of bind, listen and accept that are explained to the user.
const (
	errInUse        = windows.WSAEADDRINUSE
	errNotPermitted = windows.WSAEACCES
	errTooManyFiles = windows.WSAEMFILE
	notPermitted    = "is reserved by the system (see netsh interface ipv4 show excludedportrange protocol=tcp) or is in exclusive use by another program"
)
