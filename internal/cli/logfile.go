package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// logPath returns where the log of a daemon in the background is.
func logPath() (string, error) {
	folder, err := stateFolder()
	return filepath.Join(folder, "kubeshore.log"), err
}

// lastLog returns that path, if there is a log.
func lastLog() (path string, ok bool) {
	path, err := logPath()
	if err != nil {
		return "", false
	}
	_, err = os.Stat(path)
	return path, err == nil
}

// logFileSize is how large a log file grows before it becomes the old one.
const logFileSize = 10 << 20

// logFile is a file that is written at its end. When it is full it becomes the old one,
// of which there is one at a time.
type logFile struct {
	path string
	max  int64

	mu     sync.Mutex
	file   *os.File
	size   int64                // of what Write has written, and was there before
	over   int64                // how much more than max it may have, as it could not become the old one
	lost   int                  // lines that there was no room for
	why    error                // what the last of them failed by
	opened func(*os.File) error // is told of a further file; may be nil
}

// openLogFile opens a log file for its user alone, and makes its folder if need be.
func openLogFile(path string) (*logFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	l := &logFile{path: path, max: logFileSize}
	return l, l.open()
}

// open must be called with mu held, or before anybody else has l.
func (l *logFile) open() error {
	file, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	l.file, l.size, l.over = file, info.Size(), 0
	return nil
}

// Write writes a line. Where there is no room for it, it is lost, those that come later
// are tried, and the first of them that there is room for follows how many are missing. It
// never fails: nobody could be told.
func (l *logFile) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size > 0 && l.size+int64(len(line)) > l.max+l.over {
		l.rotate()
	}
	text := line
	if l.lost > 0 {
		text = append(fmt.Appendf(nil, "(lines that are missing here: %d, as of %v)\n", l.lost, l.why), line...)
	}
	n, err := l.file.Write(text)
	if err != nil {
		l.lost, l.why = l.lost+1, err
		if info, e := l.file.Stat(); e == nil && n > 0 {
			_ = l.file.Truncate(info.Size() - int64(n)) // half of a line is none
		}
		return len(line), nil
	}
	l.size, l.lost = l.size+int64(n), 0
	return len(line), nil
}

// rotate makes the file the old one, and begins a new one. Where that can't be had it goes
// on with the file, and tries again when that has grown by as much again. mu must be held.
func (l *logFile) rotate() {
	full := l.file
	err := os.Rename(l.path, l.path+".1")
	if err == nil {
		if err = l.open(); err != nil {
			_ = os.Rename(l.path+".1", l.path)
		}
	}
	if err != nil {
		l.over = l.size
		return
	}
	_ = full.Close()
	if l.opened != nil {
		_ = l.opened(l.file) // what can't be had there is still written here
	}
}

// Close closes the file.
func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
