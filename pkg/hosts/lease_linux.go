package hosts

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kubeshore/kubeshore/internal/backoff"
)

// dirWatchSeesWrites reports whether a watch on a directory sees all writes to a file
// in it. Writes to a bind mount are only reported in the directory of its source.
const dirWatchSeesWrites = false

// hasWriter reports whether another process has the file open for writing; known
// reports whether the system can tell. This process must have the file open for
// reading only: the kernel grants a read lease only if nobody can write the file
// (fcntl(2), F_SETLEASE).
func hasWriter(file *os.File) (writing, known bool) {
	_, err := unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		_, err = unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
		return false, err == nil
	}
	return true, errors.Is(err, unix.EAGAIN)
}

// exclusiveLease makes other programs that open the file wait until release is called,
// or until the kernel revokes the lease (lease-break-time, 45 s). It does nothing if
// another program keeps the file open for longer than openWriterTimeout, or if the file
// system doesn't support leases. The only error is that of ctx. release may be called
// more than once.
func exclusiveLease(ctx context.Context, file *os.File) (release func(), err error) {
	for start := time.Now(); ; {
		_, err := unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
		if err == nil {
			return sync.OnceFunc(func() { _, _ = unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_UNLCK) }), nil
		}
		if !errors.Is(err, unix.EAGAIN) || time.Since(start) > openWriterTimeout {
			return func() {}, nil
		}
		if err := backoff.Sleep(ctx, writerPollInterval); err != nil {
			return nil, err
		}
	}
}
