package hosts

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const original = "127.0.0.1 localhost\n"

// openTestFile opens a hosts file in a temporary directory.
func openTestFile(t *testing.T) (*File, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(path, []byte(original), 0o640); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path, testOwner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f, path
}

func mustSet(t *testing.T, f *File, table map[netip.Addr][]string) {
	t.Helper()
	if refused, err := f.Set(t.Context(), table); err != nil || len(refused) > 0 {
		t.Fatalf("Set: refused %v, error %v; want none", refused, err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// replace calls replaceLocked with the lock held.
func replace(f *File, before, next []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, _, err := f.replaceLocked(before, next)
	return err
}

// overwrite calls overwriteLocked with the lock held.
func overwrite(t *testing.T, f *File, before, next []byte) error {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.overwriteLocked(t.Context(), before, next)
	return err
}

func wantContent(t *testing.T, path, want string) {
	t.Helper()
	if got := readFile(t, path); got != want {
		t.Errorf("%s: got %q, want %q", path, got, want)
	}
}

func TestSetAndRemoveBlock(t *testing.T) {
	f, path := openTestFile(t)
	mustSet(t, f, testTable)
	wantContent(t, path, original+blockLines)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("got mode %v, error %v; want 0640", info.Mode(), err)
	}
	mustSet(t, f, nil)
	wantContent(t, path, original)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("directory: got %v, error %v; want only the hosts file", entries, err)
	}
}

func TestEmptyFileIsRestored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path, testOwner)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mustSet(t, f, testTable)
	mustSet(t, f, nil)
	wantContent(t, path, "")
}

// Setting the same table again writes the file only if another program has modified it.
func TestSetSameTable(t *testing.T) {
	f, path := openTestFile(t)
	mustSet(t, f, testTable)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	mustSet(t, f, testTable)
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the file was replaced, error %v; want no write", err)
	}
	if err := os.WriteFile(path, []byte("127.0.0.1 rewritten-by-another\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	mustSet(t, f, testTable)
	wantContent(t, path, "127.0.0.1 rewritten-by-another\n"+blockLines)
}

func TestSymlinkIsFollowed(t *testing.T) {
	f, path := openTestFile(t)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "hosts")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	f, err := Open(link, testOwner)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Open(path, testOwner); !errors.Is(err, ErrInUse) {
		t.Errorf("open the link's target: got %v, want %v", err, ErrInUse)
	}
	mustSet(t, f, testTable)
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("got mode %v, error %v; want a symbolic link", info.Mode(), err)
	}
	wantContent(t, path, original+blockLines)
}

func TestOverwriteInPlace(t *testing.T) {
	f, path := openTestFile(t)
	for _, next := range []string{original + blockLines, original, ""} {
		if err := overwrite(t, f, []byte(readFile(t, path)), []byte(next)); err != nil {
			t.Fatal(err)
		}
		wantContent(t, path, next)
	}
}

// If the temporary file can't be created, the hosts file is written in place.
func TestFallBackToWriteInPlace(t *testing.T) {
	f, path := openTestFile(t)
	mustSet(t, f, testTable)
	if err := os.Mkdir(sidecarPath(path, "new"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(sidecarPath(path, "new"), "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mustSet(t, f, nil)
	wantContent(t, path, original)
}

// A file that was modified after it was read is not written.
func TestModifiedFileIsNotOverwritten(t *testing.T) {
	f, path := openTestFile(t)
	before, next := []byte("previous content"), []byte("next content")
	for method, err := range map[string]error{"replace": replace(f, before, next), "overwrite": overwrite(t, f, before, next)} {
		if !errors.Is(err, errModified) {
			t.Errorf("%s: got %v, want %v", method, err, errModified)
		}
		wantContent(t, path, original)
	}
}

func TestLeftoversOfKilledProcessAreCleanedUp(t *testing.T) {
	f, path := openTestFile(t)
	mustSet(t, f, testTable)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	temp := filepath.Join(filepath.Dir(path), ".hosts.kubeshore-new")
	if err := os.WriteFile(temp, []byte("half of"), 0o600); err != nil {
		t.Fatal(err)
	}
	next, err := Open(path, testOwner)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	mustSet(t, next, nil)
	wantContent(t, path, original)
	if _, err := os.Stat(temp); err == nil {
		t.Error("the temporary file still exists")
	}
}

func TestOneProcessPerOwner(t *testing.T) {
	f, path := openTestFile(t)
	if _, err := Open(path, testOwner); err == nil || !errors.Is(err, ErrInUse) {
		t.Fatalf("second Open: got %v, want %v", err, ErrInUse)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	// Concurrent callers get it one at a time.
	var all sync.WaitGroup
	var mu sync.Mutex
	opened := 0
	for range 8 {
		all.Go(func() {
			for range 50 {
				next, err := Open(path, testOwner)
				if err != nil {
					continue
				}
				if !mu.TryLock() {
					t.Error("two callers have the file open")
					return
				}
				opened++
				mu.Unlock()
				if err := next.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if opened == 0 {
		t.Error("no caller could open the file")
	}
}

// A second Close doesn't release the lock of the next process.
func TestCloseTwice(t *testing.T) {
	f, path := openTestFile(t)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	next, err := Open(path, testOwner)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, testOwner); !errors.Is(err, ErrInUse) {
		t.Errorf("third Open: got %v, want %v", err, ErrInUse)
	}
}

func TestOpenRejectsUnusableFiles(t *testing.T) {
	dir := t.TempDir()
	for name, path := range map[string]string{"missing directory": filepath.Join(dir, "none", "hosts"), "directory": dir} {
		if _, err := Open(path, testOwner); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want an error with the path in it", name, err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("directory: got %v, want no files", entries)
	}
}
