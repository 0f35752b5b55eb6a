package hosts

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// lock is a file that one process at a time holds. The operating system gives
// it free when the process ends, however it ends.
type lock struct {
	file *os.File
}

// ErrInUse says that another kubeshore has the hosts file.
var ErrInUse = errors.New("another kubeshore has it")

// acquire takes the lock at path, making the file and its folder if need be.
func acquire(path string) (*lock, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	for {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		switch err := tryLock(file); {
		case errors.Is(err, ErrInUse):
			holder, _ := io.ReadAll(io.LimitReader(file, 32)) // who it is only makes the line clearer
			return nil, errors.Join(
				fmt.Errorf("%w, process %s; end that one first", ErrInUse, strings.TrimSpace(string(holder))),
				file.Close())
		case err != nil:
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
		}
		if !stillAt(file, path) { // its holder removed it just before we had it
			if err := file.Close(); err != nil {
				return nil, err
			}
			continue
		}
		err = errors.Join(file.Truncate(0), writeAll(file, fmt.Sprintln(os.Getpid())))
		if err != nil {
			return nil, errors.Join(err, file.Close())
		}
		return &lock{file: file}, nil
	}
}

// release removes the file and gives the lock free.
func (l *lock) release() error { return errors.Join(removeHeld(l.file), l.file.Close()) }

func writeAll(w io.WriterAt, text string) error {
	_, err := w.WriteAt([]byte(text), 0)
	return err
}

func stillAt(file *os.File, path string) bool {
	have, err1 := file.Stat()
	there, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(have, there)
}
