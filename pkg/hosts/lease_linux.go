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

// seenByFolder tells whether the folder's watch sees all that is written into a file.
// A bind mount's is seen in the folder that it is mounted from.
const seenByFolder = false

// hasWriter tells whether another process has a file open for writing, which this one
// has open for reading; known, whether it can be told. A lease for reading can be had
// only if none has (fcntl(2), F_SETLEASE).
func hasWriter(file *os.File) (writing, known bool) {
	_, err := unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		_, err = unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
		return false, err == nil
	}
	return true, errors.Is(err, unix.EAGAIN)
}

// alone has other programs that open the file wait until leave is called, which may be
// called more than once; or until the kernel has had enough of it (lease-break-time,
// 45 s). Where that can't be had, as another program has the file open for long or the
// file system knows no leases, nobody waits.
func alone(ctx context.Context, file *os.File) (leave func(), err error) {
	for begin := time.Now(); ; {
		_, err := unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
		if err == nil {
			return sync.OnceFunc(func() { _, _ = unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_UNLCK) }), nil
		}
		if !errors.Is(err, unix.EAGAIN) || time.Since(begin) > aloneTime {
			return func() {}, nil
		}
		if err := backoff.Sleep(ctx, latePause); err != nil {
			return nil, err
		}
	}
}
