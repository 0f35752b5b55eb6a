package config

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// A file is noticed when it is written, replaced, removed or created again, or
// changed behind a symbolic link. Its neighbors are not.
func TestWatchFiles(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	plain, link, target := filepath.Join(dir, "plain"), filepath.Join(dir, "link"), filepath.Join(other, "target")
	write := func(path string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(time.Now().String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(target)
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	seen, ended := make(chan []string), make(chan error)
	go func() {
		ended <- watchFiles(ctx, []string{plain, link, filepath.Join(dir, "no", "dir")}, func(paths []string) { seen <- paths })
	}()
	probe := filepath.Join(dir, "probe")
	expect := func(what, path string, change func()) {
		t.Helper()
		for { // the watcher may not have started
			change()
			select {
			case paths := <-seen:
				if !slices.Contains(paths, path) || slices.Contains(paths, probe) {
					t.Errorf("%s: got %q, want %s", what, paths, path)
				}
				return
			case <-time.After(5 * writeQuietWindow):
			case err := <-ended:
				t.Fatalf("watchFiles: %v", err)
			}
		}
	}
	expect("made", plain, func() { write(probe); write(plain) })
	expect("replaced", plain, func() {
		write(probe)
		if err := os.Rename(probe, plain); err != nil {
			t.Fatal(err)
		}
	})
	expect("behind a link", link, func() { write(target) })
	expect("removed", plain, func() {
		write(plain)
		if err := os.Remove(plain); err != nil {
			t.Fatal(err)
		}
	})
	cancel()
	for {
		select {
		case <-seen:
			continue
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		}
		break
	}
}
