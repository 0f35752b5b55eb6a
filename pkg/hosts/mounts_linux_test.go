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

// insideOf is the variable that has the name of the test that runs in a mount namespace
// of its own.
const insideOf = "HOSTS_TEST_INSIDE_OF"

// inside runs the test anew in a mount namespace of its own, and tells whether that is
// where it runs already.
func inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideOf) == t.Name() {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount")
	}
	command := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	command.Env = append(os.Environ(), insideOf+"="+t.Name())
	command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := command.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// mount mounts until the test ends.
func mount(t *testing.T, source, target, kind string, flags uintptr, data string) {
	t.Helper()
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
}

// bindMounted returns a hosts file that is a bind mount, as in a container, and its
// folder.
func bindMounted(t *testing.T) (path, folder string) {
	t.Helper()
	folder = t.TempDir()
	source, path := filepath.Join(t.TempDir(), "source"), filepath.Join(folder, "hosts")
	for _, file := range []string{source, path} {
		if err := os.WriteFile(file, []byte(original), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	mount(t, source, path, "", unix.MS_BIND, "")
	return path, folder
}

func readOnly(t *testing.T, folder string) {
	t.Helper()
	if err := unix.Mount("", folder, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
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

// A bind mount is written in place, another program that writes it too loses nothing,
// and what that one drops is noticed: its folder doesn't see it.
func TestFileIsABindMount(t *testing.T) {
	if !inside(t) {
		return
	}
	path, folder := bindMounted(t)
	f := openAt(t, path)
	runWatch(t, f)
	mustSet(t, f, testTable)
	if got := readFile(t, path); got != original+blockLines {
		t.Errorf("it has %q", got)
	}
	begin := time.Now()
	if err := os.WriteFile(path, []byte(original), 0o644); err != nil {
		t.Fatal(err)
	}
	<-f.Changed()
	t.Logf("noticed after %v", time.Since(begin))
	mustSet(t, f, testTable)
	mustSet(t, f, nil)
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != 2 { // the file and the lock
		t.Errorf("the folder has %v, %v", entries, err)
	}
	testAnotherProgram(t, f, path, "append,truncate")
}

// Where nothing can be made beside the file, as in a container whose root is read-only,
// the locks are elsewhere.
func TestFileInAReadOnlyFolder(t *testing.T) {
	if !inside(t) {
		return
	}
	path, folder := bindMounted(t)
	begun := beginMarker("1001") + "\n127.64.7.7 dead.shop # kubeshore 1001\n" + endMarker("1001") + "\n"
	if err := os.WriteFile(path, []byte(original+begun), 0o644); err != nil {
		t.Fatal(err)
	}
	mount(t, folder, folder, "", unix.MS_BIND|unix.MS_REC, "")
	readOnly(t, folder)
	f := openAt(t, path)
	if _, err := Open(path, testOwner); !errors.Is(err, ErrInUse) {
		t.Errorf("a second one gets %v, want %v", err, ErrInUse)
	}
	mustSet(t, f, testTable)
	done, err := Clean(t.Context(), path)
	if err != nil || !slices.Equal(done.Owners, []string{"1001"}) || !slices.Equal(done.Running, []string{testOwner}) {
		t.Errorf("cleaned: %+v, %v", done, err)
	}
	mustSet(t, f, nil)
	if got := readFile(t, path); got != original {
		t.Errorf("it has %q", got)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	openAt(t, path)
}

// A file on a read-only file system can't be had, and is left alone.
func TestFileOnAReadOnlyMount(t *testing.T) {
	if !inside(t) {
		return
	}
	f, path := openTestFile(t)
	folder := filepath.Dir(path)
	mount(t, folder, folder, "", unix.MS_BIND, "")
	readOnly(t, folder)
	for name, err := range map[string]error{
		"Set":   func() error { _, err := f.Set(t.Context(), testTable); return err }(),
		"Open":  func() error { _, err := Open(path, "1001"); return err }(),
		"Clean": func() error { _, err := Clean(t.Context(), path); return err }(),
	} {
		if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s says %v", name, err)
		}
	}
	if got := readFile(t, path); got != original {
		t.Errorf("it has %q", got)
	}
}

// A full disk costs no byte, whichever way the file is written.
func TestFileOnAFullDisk(t *testing.T) {
	if !inside(t) {
		return
	}
	folder := t.TempDir()
	mount(t, "tmpfs", folder, "tmpfs", 0, "size=64k")
	path := filepath.Join(folder, "hosts")
	prev := append([]byte(original), bytes.Repeat([]byte("# theirs\n"), 440)...) // nearly a page
	if err := os.WriteFile(path, prev, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path, testOwner)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.WriteFile(filepath.Join(folder, "filler"), make([]byte, 64<<10), 0o644); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk isn't full: %v", err)
	}
	next := slices.Concat(prev, bytes.Repeat([]byte(blockLines), 20))
	for name, write := range map[string]func() error{
		"Set": func() error {
			_, err := f.Set(t.Context(), testTable)
			return err
		},
		"in place": func() error {
			_, err := f.overwriteLocked(t.Context(), prev, next)
			return err
		},
	} {
		if err := write(); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s: %v", name, err)
		}
		if got := readFile(t, path); got != string(prev) {
			t.Errorf("%s: it has lost bytes, and has %d of %d", name, len(got), len(prev))
		}
	}
	mustSet(t, f, nil) // nothing to take back, and no room needed
}
