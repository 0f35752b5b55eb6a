package hosts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kubeshore/kubeshore/internal/backoff"
)

// fileLock is a lock that one process at a time can hold. The operating system
// releases it when the process ends for any reason.
type fileLock struct {
	file   *os.File  // nil if no lock file can be created
	socket io.Closer // the lock in that case
	once   sync.Once
}

// ErrInUse means that another kubeshore process of the same owner uses the hosts file.
var ErrInUse = errors.New("in use by another kubeshore process")

// fileLockRetryInterval is the interval between attempts to take a lock that another
// process holds.
const fileLockRetryInterval = 10 * time.Millisecond

// acquire takes a lock, and waits while another process holds it. If ctx ends before
// that, the error is an ErrInUse.
func acquire(ctx context.Context, path, kind string) (*fileLock, error) {
	for {
		l, err := tryAcquire(path, kind)
		if !errors.Is(err, ErrInUse) {
			return l, err
		}
		if backoff.Sleep(ctx, fileLockRetryInterval) != nil {
			return nil, err
		}
	}
}

// tryAcquire takes the lock of the given kind for the hosts file at path. It creates
// the lock file next to the hosts file if necessary.
func tryAcquire(path, kind string) (*fileLock, error) {
	lockPath := sidecarPath(path, kind)
	for {
		file, err := openLockFile(lockPath)
		if cannotCreateFile(err) && !exists(path) { // nor can the hosts file be created
			return nil, err
		}
		if cannotCreateFile(err) && !exists(lockPath) {
			return tryAcquireSocket(path, kind)
		}
		if errors.Is(err, fs.ErrPermission) && exists(lockPath) {
			return nil, fmt.Errorf("%w of another user (lock file %s)", ErrInUse, lockPath)
		}
		if err != nil {
			return nil, err
		}
		err = lockHandle(file)
		if errors.Is(err, ErrInUse) {
			err = fmt.Errorf("%w (pid %s); stop it first", ErrInUse, readHolder(file))
		}
		if err == nil && !stillAt(file, lockPath) { // the previous holder has just removed the file
			if err := file.Close(); err != nil {
				return nil, err
			}
			continue
		}
		if err == nil {
			err = writeHolder(file)
		}
		if err != nil {
			return nil, errors.Join(err, file.Close())
		}
		return &fileLock{file: file}, nil
	}
}

// release removes the lock file and releases the lock. Only the first call has an
// effect, because another process may have created the file again since.
func (l *fileLock) release() (err error) {
	l.once.Do(func() {
		if l.file == nil {
			err = l.socket.Close()
		} else {
			err = errors.Join(removeLockFile(l.file), l.file.Close())
		}
	})
	return err
}

// writeHolder writes this process's ID into a lock file. A full disk is not an error:
// the ID is only information for people.
func writeHolder(file *os.File) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := file.WriteAt(fmt.Appendln(nil, os.Getpid()), 0)
	if isDiskFull(err) {
		return nil
	}
	return err
}

// readHolder returns the process ID in a lock file, or "unknown".
func readHolder(file *os.File) string {
	text, err := io.ReadAll(io.LimitReader(file, 16))
	if err != nil {
		return "unknown"
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return "unknown"
	}
	return strconv.Itoa(pid)
}

// stillAt reports whether path leads to the open file.
func stillAt(file *os.File, path string) bool {
	opened, err1 := file.Stat()
	current, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(opened, current)
}
