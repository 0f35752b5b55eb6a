package cli

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// A file that is written, replaced, removed and made again, or that a symbolic
// link leads to, is noticed; what is beside it isn't.
func TestWatchFiles(t *testing.T) {
	folder, other := t.TempDir(), t.TempDir()
	plain, link, target := filepath.Join(folder, "plain"), filepath.Join(folder, "link"), filepath.Join(other, "target")
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
		ended <- watchFiles(ctx, []string{plain, link, filepath.Join(folder, "no", "folder")}, func(paths []string) { seen <- paths })
	}()
	probe := filepath.Join(folder, "probe")
	expect := func(what, path string, change func()) {
		t.Helper()
		for { // it may not watch yet
			change()
			select {
			case paths := <-seen:
				if !slices.Contains(paths, path) || slices.Contains(paths, probe) {
					t.Errorf("%s: it says %q", what, paths)
				}
				return
			case <-time.After(5 * settleTime):
			case err := <-ended:
				t.Fatalf("it ends: %v", err)
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
