//go:build !windows

package project

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Files and links of other users are refused, also by root, and a named pipe is refused
// without waiting for a writer.
func TestLoadFoundOfOthers(t *testing.T) {
	dir := t.TempDir()
	path, link, pipe := filepath.Join(dir, Name), filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadFound(pipe); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a pipe: got %v", err)
	}
	if os.Getuid() != 0 {
		t.Skip("needs root to make files of others")
	}
	writeProject(t, path, "domain: a", 0o644)
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(link, 4711, 4711); err != nil {
		t.Fatal(err)
	}
	for _, found := range []string{link, path} {
		if _, _, err := LoadFound(found); err == nil || !strings.Contains(err.Error(), "belongs to another user") {
			t.Errorf("%s of another user: got %v", filepath.Base(found), err)
		}
		if err := os.Chown(path, 4711, 4711); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Load(path); err != nil {
		t.Errorf("a named file of another user: got %v, want no error", err)
	}
}
