package term

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// maxLogFile is the size in bytes at which a log file is rotated.
const maxLogFile = 10 << 20

// LogFile is a log file that rotates: when it is full it is renamed to PATH.1,
// replacing the one before. Any goroutine may call its methods.
type LogFile struct {
	path string
	max  int64

	mu       sync.Mutex
	file     *os.File
	size     int64                // of the file
	excess   int64                // allowed beyond max, since rotation failed
	lost     int                  // lines that could not be written
	lostErr  error                // of the last of them
	onReopen func(*os.File) error // called with each new file; may be nil
}

// OpenLogFile opens a log file that only its user can read, and creates its
// directory if necessary.
func OpenLogFile(path string) (*LogFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	l := &LogFile{path: path, max: maxLogFile}
	return l, l.openLocked()
}

// openLocked opens the file. mu must be held, unless l isn't shared yet.
func (l *LogFile) openLocked() error {
	file, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	l.file, l.size, l.excess = file, info.Size(), 0
	return nil
}

// Write writes a line. It never fails: a line that can't be written is lost, and
// the next one that can be is preceded by a line with the number of lost ones.
func (l *LogFile) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size > 0 && l.size+int64(len(line)) > l.max+l.excess {
		l.rotateLocked()
	}
	text := line
	if l.lost > 0 {
		text = append(fmt.Appendf(nil, "(%d lines lost: %v)\n", l.lost, l.lostErr), line...)
	}
	n, err := l.file.Write(text)
	if err != nil {
		l.lost, l.lostErr = l.lost+1, err
		if info, e := l.file.Stat(); e == nil && n > 0 {
			_ = l.file.Truncate(info.Size() - int64(n)) // remove the partial line
		}
		return len(line), nil
	}
	l.size, l.lost = l.size+int64(n), 0
	return len(line), nil
}

// rotateLocked renames the file and opens a new one. If that fails, logging
// continues in the old file, and rotation is tried again when the file has
// grown by max. mu must be held.
func (l *LogFile) rotateLocked() {
	full := l.file
	err := os.Rename(l.path, l.path+".1")
	if err == nil {
		if err = l.openLocked(); err != nil {
			_ = os.Rename(l.path+".1", l.path)
		}
	}
	if err != nil {
		l.excess = l.size
		return
	}
	_ = full.Close()
	if l.onReopen != nil {
		_ = l.onReopen(l.file) // Write works all the same
	}
}

// Close closes the file.
func (l *LogFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
