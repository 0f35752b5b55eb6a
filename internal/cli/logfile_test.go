package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// No line is lost or torn where the file becomes the old one, however many write.
func TestLogFileRotates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "log")
	l, err := openLogFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const writers, lines = 4, 100
	l.max = writers*lines*8/2 + 8 // it is full once
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range lines {
				if _, err := fmt.Fprintf(l, "%d-%05d\n", w, i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, path := range []string{path + ".1", path} {
		content, err := os.ReadFile(path)
		if err != nil || int64(len(content)) > l.max {
			t.Errorf("%s has %d bytes, %v", path, len(content), err)
		}
		for line := range strings.Lines(string(content)) {
			seen[line] = true
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if len(seen) != writers*lines {
		t.Errorf("it has %d lines of %d", len(seen), writers*lines)
	}
	again, err := openLogFile(path) // goes on where it was
	if err != nil || again.size == 0 {
		t.Errorf("opened again it has %d bytes, %v", again.size, err)
	}
	_ = again.Close()
}
