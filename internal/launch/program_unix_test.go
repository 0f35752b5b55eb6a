//go:build !windows

package launch

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A program next to kubeshore is root's half only if it has the same version and nobody
// but root and kubeshore's owner could have written it.
func TestFindRootHalf(t *testing.T) {
	test, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(test) // has the version that this process expects
	if err != nil {
		t.Fatal(err)
	}
	const writable = "must be a file that only root or the owner of kubeshore can write"
	for _, c := range []struct {
		name, want string
		change     func(path string) error
		root       bool
	}{
		{"same version", "", func(string) error { return nil }, false},
		{"missing", "no such file or directory", os.Remove, false},
		{"writable by the group", writable, func(path string) error { return os.Chmod(path, 0o775) }, false},
		{"writable by others", writable, func(path string) error { return os.Chmod(path, 0o757) }, false},
		{"other owner", writable, func(path string) error { return os.Chown(path, 4242, 4242) }, true},
		{"link", writable, func(path string) error { return errors.Join(os.Remove(path), os.Symlink(test, path)) }, false},
		{"directory", writable, func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o755)) }, false},
		{"script", "unrecognized file format", func(path string) error { return os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.root && os.Geteuid() != 0 {
				t.Skip("needs root")
			}
			self := filepath.Join(t.TempDir(), "kubeshore")
			path := filepath.Join(filepath.Dir(self), RootHalfName)
			if err := errors.Join(os.WriteFile(self, nil, 0o755), os.WriteFile(path, program, 0o755), c.change(path)); err != nil {
				t.Fatal(err)
			}
			got, err := findRootHalf(self)
			switch {
			case c.want == "" && (err != nil || filepath.Base(got) != RootHalfName):
				t.Errorf("got %q, %v; want %s", got, err, path)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %q, %v; want an error with %q", got, err, c.want)
			}
		})
	}
}
