package peer

import "golang.org/x/sys/unix"

// uid queries LOCAL_PEERCRED (unix(4)).
func uid(fd int) (int, error) {
	credentials, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return 0, err
	}
	return int(credentials.Uid), nil
}

// pid queries LOCAL_PEERPID.
func pid(fd int) (int, error) { return unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID) }
