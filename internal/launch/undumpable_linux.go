package launch

import "golang.org/x/sys/unix"

// keepConnection keeps other programs of the same user from taking descriptors of this
// process, with pidfd_getfd(2) or ptrace(2), and thereby the connection to the keeper.
// It lasts until the process executes another program (PR_SET_DUMPABLE in prctl(2)).
func keepConnection() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }
