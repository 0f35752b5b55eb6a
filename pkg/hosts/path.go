package hosts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// resolve follows the symbolic links of a path to a regular file, or to a missing one in an
// existing directory.
func resolve(path string) (string, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) && !exists(path) {
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return "", fmt.Errorf("hosts file %s: %w", path, err)
		}
		return filepath.Join(dir, filepath.Base(path)), nil
	}
	if err != nil {
		return "", fmt.Errorf("hosts file: %w", err)
	}
	info, err := os.Stat(resolved)
	if err != nil {
		return "", fmt.Errorf("hosts file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("hosts file %s: not a regular file", path)
	}
	return resolved, nil
}

// checkWritable returns an error if a file exists and can't be opened for writing.
func checkWritable(resolved string) error {
	file, err := os.OpenFile(resolved, os.O_RDWR, 0)
	if err == nil {
		err = file.Close()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("hosts file: %w", explain(err))
	}
	return nil
}

// sidecarPath returns the path of a file that kubeshore keeps next to the hosts file.
func sidecarPath(path, kind string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".kubeshore-"+kind)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
