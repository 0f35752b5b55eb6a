//go:build !windows

package term

import (
	"os"

	"golang.org/x/sys/unix"
)

// RedirectStderr makes the file, and each one that follows it after a rotation,
// the process's stderr, so that it gets the output of a crash.
func (l *LogFile) RedirectStderr() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onReopen = func(file *os.File) error {
		return os.NewSyscallError("dup2", unix.Dup2(int(file.Fd()), 2))
	}
	return l.onReopen(l.file)
}

// DupStderr returns a duplicate of stderr, which stays open when stderr is
// redirected.
func DupStderr() (*os.File, error) {
	fd, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	return os.NewFile(uintptr(fd), "stderr"), nil
}
