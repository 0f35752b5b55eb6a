package hosts

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Environment variables that make the test binary act as another program.
const (
	writerPath    = "HOSTS_TEST_WRITER_PATH"    // adds lines to the hosts file at this path
	writerMethods = "HOSTS_TEST_WRITER_METHODS" // with these of appendMethods, in turn
	openerPath    = "HOSTS_TEST_OPENER_PATH"    // opens it as kubeshore run by another user
)

// appendMethods are the ways in which programs add a line to a file.
var appendMethods = map[string]func(path, line string) error{"append": appendTo, "rename": renameWith, "truncate": truncateWith}

// programWrites is the number of lines that the other program adds.
const programWrites = 200

// immutable is FS_IMMUTABLE_FL (linux/fs.h).
const immutable = 0x10

func TestMain(m *testing.M) {
	if path := os.Getenv(openerPath); path != "" {
		_, err := Open(path, "1001")
		fmt.Print(errors.Is(err, ErrInUse))
		return
	}
	if path := os.Getenv(writerPath); path != "" {
		runWriter(path)
		return
	}
	os.Exit(m.Run())
}

// runWriter adds a line for each byte from standard input, and prints its number.
func runWriter(path string) {
	in := bufio.NewReader(os.Stdin)
	methods := strings.Split(os.Getenv(writerMethods), ",")
	for i := range programWrites {
		if _, err := in.ReadByte(); err != nil {
			panic(err)
		}
		line := fmt.Sprintf("10.0.0.%d theirs-%d\n", i, i)
		if err := appendMethods[methods[i%len(methods)]](path, line); err != nil {
			panic(err)
		}
		fmt.Println(i)
	}
}

func appendTo(path, line string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(line)
	return errors.Join(err, file.Close())
}

// renameWith does what sed -i does, but holds our lock from read to rename. Without it, it
// would undo our writes in between, which can't be prevented.
func renameWith(path, line string) error {
	l, err := acquire(context.Background(), path, "lock")
	if err != nil {
		return err
	}
	content, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path+".sed", append(content, line...), 0o644)
	}
	if err == nil {
		err = os.Rename(path+".sed", path)
	}
	return errors.Join(err, l.release())
}

// truncateWith writes the file as an editor does that keeps the inode. It holds the lock for
// the same reason as renameWith.
func truncateWith(path, line string) error {
	l, err := acquire(context.Background(), path, "lock")
	if err != nil {
		return err
	}
	content, err := os.ReadFile(path)
	err = errors.Join(err, l.release())
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(append(content, line...), 512) {
		_, writeErr := file.Write(part)
		err = errors.Join(err, writeErr)
	}
	return errors.Join(err, file.Close())
}

// A lock file of another user, which can't be opened, counts as held.
func TestLockOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become another user")
	}
	f, path := openTestFile(t)
	if err := errors.Join(os.Chmod(path, 0o666), os.Chmod(filepath.Dir(path), 0o777)); err != nil {
		t.Fatal(err)
	}
	held, err := tryAcquire(f.path, "lock-1001")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.release() }()
	out := asNobody(t, openerPath+"="+path)
	if out != "true" {
		t.Errorf("Open by another user returned ErrInUse: got %s, want true", out)
	}
}

// asNobody runs the test binary as an unprivileged user.
func asNobody(t *testing.T, environment string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	content, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, content, 0o755); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(program); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.Command(program)
	command.Env = append(os.Environ(), environment)
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// While another program writes the file 200 times and names change, none of its lines is
// lost, and none of ours is left in the end.
func TestConcurrentProgram(t *testing.T) {
	for _, methods := range []string{"append,rename", "append,rename,truncate"} {
		t.Run(methods, func(t *testing.T) {
			f, path := openTestFile(t)
			testAnotherProgram(t, f, path, methods)
		})
	}
}

func testAnotherProgram(t *testing.T, f *File, path, methods string) {
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), writerPath+"="+path, writerMethods+"="+methods)
	command.Stderr = os.Stderr
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for range programWrites {
			if _, err := in.Write([]byte{'.'}); err != nil {
				written <- err
				return
			}
			lines.Scan()
		}
		written <- command.Wait()
	}()
	sets := 0
	for done := false; !done; sets++ {
		names := map[netip.Addr][]string{addr1: {fmt.Sprintf("web-%d.shop", sets)}, addr2: {"db"}}
		if _, err := f.Set(t.Context(), names); err != nil && !errors.Is(err, errModified) {
			t.Error(err)
		}
		select {
		case err := <-written:
			if err != nil {
				t.Fatal(err)
			}
			done = true
		default:
		}
	}
	t.Logf("%d calls of Set during %d writes of the other program", sets, programWrites)
	mustSet(t, f, nil)
	got := readFile(t, path)
	for i := range programWrites {
		if n := strings.Count(got, fmt.Sprintf("10.0.0.%d theirs-%d\n", i, i)); n != 1 {
			t.Errorf("line %d of the other program: got %d times, want once", i, n)
		}
	}
	if !strings.HasPrefix(got, original) || strings.Count(got, "\n") != programWrites+1 {
		t.Errorf("got\n%s\nwant %q and %d lines", got, original, programWrites)
	}
}

// A line that a program appends through a descriptor from before the rename is kept.
func TestConcurrentAppendIsKept(t *testing.T) {
	f, path := openTestFile(t)
	late, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	f.step = func(name string) error {
		if name == "rename" { // after the last comparison
			_, err := late.WriteString("10.0.0.1 late\n")
			f.step = func(string) error { return nil }
			return err
		}
		return nil
	}
	mustSet(t, f, testTable)
	wantContent(t, path, original+"10.0.0.1 late\n"+blockLines)
}

// A program that has truncated the file when it is replaced completes it after that, and the
// next one appends a line. Both are kept, in that order.
func TestAppendAfterConcurrentTruncate(t *testing.T) {
	f, path := openTestFile(t)
	truncating, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer truncating.Close()
	f.step = func(name string) error {
		if name != "read replaced" {
			return nil
		}
		f.onStep("compare", func() error { return appendTo(path, "10.0.0.2 later\n") })
		_, err := truncating.WriteString(original + "10.0.0.1 late\n")
		return errors.Join(err, truncating.Close())
	}
	mustSet(t, f, testTable)
	wantContent(t, path, original+"10.0.0.1 late\n10.0.0.2 later\n"+blockLines)
}

func TestOwnerModeAndAttributesAreKept(t *testing.T) {
	f, path := openTestFile(t)
	if os.Geteuid() != 0 {
		t.Skip("needs root to change the owner of a file")
	}
	if err := errors.Join(os.Chown(path, 1234, 2345), os.Chmod(path, 0o604), unix.Setxattr(path, "trusted.kubeshore-test", []byte("label"), 0)); err != nil {
		t.Fatal(err)
	}
	mustSet(t, f, testTable)
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil || stat.Uid != 1234 || stat.Gid != 2345 || stat.Mode&0o777 != 0o604 {
		t.Errorf("got %+v, error %v; want owner 1234:2345, mode 0604", stat, err)
	}
	value := make([]byte, 10)
	if n, err := unix.Getxattr(path, "trusted.kubeshore-test", value); string(value[:max(n, 0)]) != "label" {
		t.Errorf("extended attribute: got %q, error %v; want %q", value[:max(n, 0)], err, "label")
	}
}

// The error for an immutable file names the likely reason.
func TestImmutableFile(t *testing.T) {
	f, path := openTestFile(t)
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a file immutable")
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := unix.IoctlSetPointerInt(int(file.Fd()), unix.FS_IOC_SETFLAGS, immutable); err != nil {
		t.Fatalf("%s: make a file immutable: %v", filepath.Dir(path), err)
	}
	defer func() { _ = unix.IoctlSetPointerInt(int(file.Fd()), unix.FS_IOC_SETFLAGS, 0) }()
	if _, err := f.Set(t.Context(), testTable); err == nil || !strings.Contains(err.Error(), "immutable") {
		t.Errorf("Set: got %v, want an error with %q", err, "immutable")
	}
	wantContent(t, path, original)
	if _, err := Open(path, "1001"); err == nil || !strings.Contains(err.Error(), "immutable") {
		t.Errorf("Open: got %v, want an error with %q", err, "immutable")
	}
}
