package project

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Allowed is the path of a file with the project files that the user has allowed, a
// line each: the sum of the path and the content, and the path.
type Allowed string

// sumOf returns the sum of a project file's path and content.
func sumOf(path string, data []byte) string {
	sum := sha256.Sum256([]byte(path + "\x00" + string(data)))
	return hex.EncodeToString(sum[:])
}

// Has reports whether the user has allowed a project file with a sum.
func (a Allowed) Has(sum string) (bool, error) {
	data, err := os.ReadFile(string(a))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("read allowed project files: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if found, _, _ := strings.Cut(line, " "); found == sum {
			return true, nil
		}
	}
	return false, nil
}

// Add allows a project file.
func (a Allowed) Add(sum, path string) error {
	if known, err := a.Has(sum); err != nil || known {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(string(a)), 0o700); err != nil {
		return fmt.Errorf("allow project file: %w", err)
	}
	file, err := os.OpenFile(string(a), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("allow project file: %w", err)
	}
	_, err = fmt.Fprintf(file, "%s %q\n", sum, path)
	return errors.Join(err, file.Close())
}
