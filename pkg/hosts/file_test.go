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

// open returns a hosts file in a folder of its own.
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
		t.Fatal(refused, err)
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

func TestFileSetAndRestore(t *testing.T) {
	f, path := openTestFile(t)
	mustSet(t, f, testTable)
	if got := readFile(t, path); got != original+blockLines {
		t.Errorf("it has %q", got)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("its mode is %v, %v; want that of before", info.Mode(), err)
	}
	mustSet(t, f, nil)
	if got := readFile(t, path); got != original {
		t.Errorf("restored it has %q", got)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder has %v, %v; want the hosts file alone", entries, err)
	}
}

func TestFileThatWasEmpty(t *testing.T) {
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
	if got := readFile(t, path); got != "" {
		t.Errorf("restored it has %q", got)
	}
}

// The same table again writes nothing, unless another program wrote.
func TestFileSetAgain(t *testing.T) {
	f, path := openTestFile(t)
	mustSet(t, f, testTable)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	mustSet(t, f, testTable)
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("it was written again, %v", err)
	}
	if err := os.WriteFile(path, []byte("127.0.0.1 rewritten-by-another\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	mustSet(t, f, testTable)
	if got := readFile(t, path); got != "127.0.0.1 rewritten-by-another\n"+blockLines {
		t.Errorf("it has %q", got)
	}
}

func TestFileFollowsSymlink(t *testing.T) {
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
		t.Errorf("by its own name a second one gets %v, want %v", err, ErrInUse)
	}
	mustSet(t, f, testTable)
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is now %v, %v", info.Mode(), err)
	}
	if got := readFile(t, path); got != original+blockLines {
		t.Errorf("its target has %q", got)
	}
}

// A file that can't be renamed over is written in place.
func TestFileOverwrite(t *testing.T) {
	f, path := openTestFile(t)
	for _, next := range []string{original + blockLines, original, ""} {
		if _, err := f.overwriteLocked(t.Context(), []byte(readFile(t, path)), []byte(next)); err != nil {
			t.Fatal(err)
		}
		if got := readFile(t, path); got != next {
			t.Errorf("it has %q, want %q", got, next)
		}
	}
}

// Where no file can be made beside it, it is written in place.
func TestFileWithoutRoomBeside(t *testing.T) {
	f, path := openTestFile(t)
	mustSet(t, f, testTable)
	if err := os.Mkdir(sidecarPath(path, "new"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(sidecarPath(path, "new"), "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mustSet(t, f, nil)
	if got := readFile(t, path); got != original {
		t.Errorf("it has %q", got)
	}
}

// What another program wrote since it was read is never lost.
func TestFileKeepsWhatOthersWrite(t *testing.T) {
	f, path := openTestFile(t)
	replace := func(there, next []byte) error {
		_, _, err := f.replaceLocked(there, next)
		return err
	}
	overwrite := func(there, next []byte) error {
		_, err := f.overwriteLocked(t.Context(), there, next)
		return err
	}
	for _, write := range []func(there, next []byte) error{replace, overwrite} {
		if err := write([]byte("as it was once"), []byte("as we want it")); !errors.Is(err, errModified) {
			t.Errorf("got %v, want %v", err, errModified)
		}
		if got := readFile(t, path); got != original {
			t.Errorf("it has %q", got)
		}
	}
}

func TestFileHealsAfterAKilledRun(t *testing.T) {
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
	if got := readFile(t, path); got != original {
		t.Errorf("it has %q", got)
	}
	if _, err := os.Stat(temp); err == nil {
		t.Error("the temporary file is left")
	}
}

func TestFileOneAtATime(t *testing.T) {
	f, path := openTestFile(t)
	if _, err := Open(path, testOwner); err == nil || !errors.Is(err, ErrInUse) {
		t.Fatalf("a second one gets %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	// Of many that want it at once, one at a time has it.
	var all sync.WaitGroup
	var mu sync.Mutex
	had := 0
	for range 8 {
		all.Go(func() {
			for range 50 {
				next, err := Open(path, testOwner)
				if err != nil {
					continue
				}
				if !mu.TryLock() {
					t.Error("two have it")
					return
				}
				had++
				mu.Unlock()
				if err := next.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if had == 0 {
		t.Error("nobody ever had it")
	}
}

// To close twice doesn't take it from the next one.
func TestFileCloseTwice(t *testing.T) {
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
		t.Errorf("a third one gets %v, want %v", err, ErrInUse)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, path := range map[string]string{"missing": filepath.Join(dir, "none"), "a folder": dir} {
		if _, err := Open(path, testOwner); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want an error that names it", name, err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("something was left: %v", entries)
	}
}
