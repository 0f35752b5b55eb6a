package project

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/printable"
)

// Find returns the path of the project file in dir, or in the nearest parent
// directory that has one, up to the root of a Git repository or the home directory,
// whichever comes first. The path is empty if there is none. The error is that of a
// directory that can't be read.
func Find(dir, home string) (string, error) {
	for {
		path := filepath.Join(dir, Name)
		_, err := os.Lstat(path)
		if err == nil {
			return path, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		parent := filepath.Dir(dir)
		if parent == dir || isSame(dir, home) || exists(filepath.Join(dir, ".git")) {
			return "", nil
		}
		dir = parent
	}
}

func isSame(dir, other string) bool {
	a, errA := os.Stat(dir)
	b, errB := os.Stat(other)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// maxFileSize limits the size of a project file in bytes.
const maxFileSize = 128 << 10

// LoadFound reads a file that Find found. Unlike [Load], it refuses a file that
// another user can write, root excepted. sum identifies the path and the content.
func LoadFound(path string) (file File, sum string, err error) {
	data, err := readTrusted(path)
	if err != nil {
		return File{}, "", fmt.Errorf("project file: %w", err)
	}
	file, err = parseFile(path, data)
	return file, sumOf(path, data), err
}

// readTrusted reads a file that only its user and root can write. A link to it must
// be theirs too, because its owner chooses which of their files it leads to.
func readTrusted(path string) ([]byte, error) {
	link, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		return nil, err
	}
	if problem := distrust(file, link, info); problem != "" {
		hint := "if you trust it, name it with --config"
		if word, ok := printable.ShellWord(path); ok {
			hint += " " + word
		}
		return nil, failure.WithHint(fmt.Errorf("%s %s", path, problem), hint)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFileSize+1))
	if err == nil && len(data) > maxFileSize {
		err = fmt.Errorf("%s has more than %d bytes", path, maxFileSize)
	}
	return data, err
}
