package hosts

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// namespaceTest is the environment variable with the name of the test that runs in its own
// mount namespace.
const namespaceTest = "HOSTS_TEST_INSIDE_OF"

// inMountNamespace reports whether the test runs in its own mount namespace. If not, it runs
// the test again in one.
func inMountNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(namespaceTest) == t.Name() {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	command := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	command.Env = append(os.Environ(), namespaceTest+"="+t.Name())
	command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := command.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// mount mounts a file system until the test ends.
func mount(t *testing.T, source, target, kind string, flags uintptr, data string) {
	t.Helper()
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
}

// bindMounted returns a hosts file that is a bind mount, as in a container, and its
// directory.
func bindMounted(t *testing.T) (path, dir string) {
	t.Helper()
	dir = t.TempDir()
	source, path := filepath.Join(t.TempDir(), "source"), filepath.Join(dir, "hosts")
	for _, file := range []string{source, path} {
		if err := os.WriteFile(file, []byte(original), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	mount(t, source, path, "", unix.MS_BIND, "")
	return path, dir
}

func readOnly(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
}

func openAt(t *testing.T, path string) *File {
	t.Helper()
	f, err := Open(path, testOwner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// A bind mount is written in place. Concurrent writes of another program are kept, and
// Changed reports them, although the directory's watch doesn't see them.
func TestBindMount(t *testing.T) {
	if !inMountNamespace(t) {
		return
	}
	path, dir := bindMounted(t)
	f := openAt(t, path)
	runWatch(t, f)
	mustSet(t, f, testTable)
	wantContent(t, path, original+blockLines)
	begin := time.Now()
	if err := os.WriteFile(path, []byte(original), 0o644); err != nil {
		t.Fatal(err)
	}
	<-f.Changed()
	t.Logf("reported after %v", time.Since(begin))
	mustSet(t, f, testTable)
	mustSet(t, f, nil)
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 { // the file and the lock
		t.Errorf("directory: got %v, error %v; want the hosts file and a lock", entries, err)
	}
	testAnotherProgram(t, f, path, "append,truncate")
}

// In a read-only directory, e.g. in a container with a read-only root, locks don't use
// files.
func TestReadOnlyDirectory(t *testing.T) {
	if !inMountNamespace(t) {
		return
	}
	path, dir := bindMounted(t)
	dead := beginMarker("1001") + "\n127.64.7.7 dead.shop # kubeshore 1001\n" + endMarker("1001") + "\n"
	if err := os.WriteFile(path, []byte(original+dead), 0o644); err != nil {
		t.Fatal(err)
	}
	mount(t, dir, dir, "", unix.MS_BIND|unix.MS_REC, "")
	readOnly(t, dir)
	f := openAt(t, path)
	if _, err := Open(path, testOwner); !errors.Is(err, ErrInUse) {
		t.Errorf("second Open: got %v, want %v", err, ErrInUse)
	}
	mustSet(t, f, testTable)
	done, err := Clean(t.Context(), path)
	if err != nil || !slices.Equal(done.Owners, []string{"1001"}) || !slices.Equal(done.Running, []string{testOwner}) {
		t.Errorf("Clean: got %+v, error %v; want owner 1001 cleaned and %s running", done, err, testOwner)
	}
	mustSet(t, f, nil)
	wantContent(t, path, original)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	openAt(t, path)
}

func TestReadOnlyFileSystem(t *testing.T) {
	if !inMountNamespace(t) {
		return
	}
	f, path := openTestFile(t)
	dir := filepath.Dir(path)
	mount(t, dir, dir, "", unix.MS_BIND, "")
	readOnly(t, dir)
	for name, err := range map[string]error{
		"Set":   func() error { _, err := f.Set(t.Context(), testTable); return err }(),
		"Open":  func() error { _, err := Open(path, "1001"); return err }(),
		"Clean": func() error { _, err := Clean(t.Context(), path); return err }(),
	} {
		if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want %v with the path", name, err, unix.EROFS)
		}
	}
	wantContent(t, path, original)
}

// A full disk loses no bytes, whether the file is replaced or written in place.
func TestFullDisk(t *testing.T) {
	if !inMountNamespace(t) {
		return
	}
	dir := t.TempDir()
	mount(t, "tmpfs", dir, "tmpfs", 0, "size=64k")
	path := filepath.Join(dir, "hosts")
	prev := append([]byte(original), bytes.Repeat([]byte("# theirs\n"), 440)...) // nearly a page
	if err := os.WriteFile(path, prev, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path, testOwner)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 64<<10), 0o644); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("fill the disk: got %v, want %v", err, unix.ENOSPC)
	}
	next := slices.Concat(prev, bytes.Repeat([]byte(blockLines), 20))
	for name, write := range map[string]func() error{
		"Set": func() error {
			_, err := f.Set(t.Context(), testTable)
			return err
		},
		"in place": func() error { return overwrite(t, f, prev, next) },
	} {
		if err := write(); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s: got %v, want %v", name, err, unix.ENOSPC)
		}
		if got := readFile(t, path); got != string(prev) {
			t.Errorf("%s: got %d bytes, want the %d from before", name, len(got), len(prev))
		}
	}
	mustSet(t, f, nil) // no block to remove, so no space is needed
}
