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

// lock is a file that one process at a time holds. The operating system gives
// it free when the process ends, however it ends.
type lock struct {
	file   *os.File  // nil where no file can be made
	socket io.Closer // then
	once   sync.Once
}

// ErrInUse says that another kubeshore of the same owner has the hosts file.
var ErrInUse = errors.New("another kubeshore has it")

// acquire takes the lock of that kind for the hosts file at path, making its file
// beside it if need be.
func acquire(path, kind string) (*lock, error) {
	for {
		file, err := openLock(hidden(path, kind))
		if notThere(err) && !exists(hidden(path, kind)) {
			return acquireSocket(path, kind)
		}
		if errors.Is(err, fs.ErrPermission) && exists(hidden(path, kind)) {
			return nil, fmt.Errorf("%w, of another user, who has %s", ErrInUse, hidden(path, kind))
		}
		if err != nil {
			return nil, err
		}
		err = tryLock(file)
		if errors.Is(err, ErrInUse) {
			err = fmt.Errorf("%w, process %s; end that one first", ErrInUse, holder(file))
		}
		if err == nil && !stillAt(file, file.Name()) { // its holder removed it just before we had it
			if err := file.Close(); err != nil {
				return nil, err
			}
			continue
		}
		if err == nil {
			err = sign(file)
		}
		if err != nil {
			return nil, errors.Join(err, file.Close())
		}
		return &lock{file: file}, nil
	}
}

// wait takes a lock, waiting for whoever has it.
func wait(ctx context.Context, path, kind string) (*lock, error) {
	for {
		l, err := acquire(path, kind)
		if !errors.Is(err, ErrInUse) {
			return l, err
		}
		if backoff.Sleep(ctx, lockPause) != nil {
			return nil, err
		}
	}
}

// lockPause is between two tries to have a lock that another process has.
const lockPause = 10 * time.Millisecond

// release removes the file and gives the lock free. Only the first call does
// anything: the file may be another's after that.
func (l *lock) release() (err error) {
	l.once.Do(func() {
		if l.file == nil {
			err = l.socket.Close()
		} else {
			err = errors.Join(removeHeld(l.file), l.file.Close())
		}
	})
	return err
}

// sign writes into a lock's file who holds it. Where the disk is full nobody is told.
func sign(file *os.File) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := file.WriteAt(fmt.Appendln(nil, os.Getpid()), 0)
	if diskFull(err) {
		return nil
	}
	return err
}

// holder returns the process id that a lock's file has, for people to read.
func holder(file *os.File) string {
	text, err := io.ReadAll(io.LimitReader(file, 16))
	id, notNumber := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || notNumber != nil {
		return "unknown"
	}
	return strconv.Itoa(id)
}

// stillAt tells whether the file is the one that path leads to.
func stillAt(file *os.File, path string) bool {
	have, err1 := file.Stat()
	there, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(have, there)
}
