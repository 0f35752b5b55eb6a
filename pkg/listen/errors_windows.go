package listen

import "golang.org/x/sys/windows"

// Why the system doesn't let us listen.
const (
	errInUse   = windows.WSAEADDRINUSE
	errNoRight = windows.WSAEACCES
	noRight    = "is kept by the system (netsh interface ipv4 show excludedportrange protocol=tcp), or another program has it for itself"
)
