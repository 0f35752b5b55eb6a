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

// writerOf is the variable that makes the test binary another program, which adds
// lines to a hosts file in the ways that programs have.
const (
	writerOf = "HOSTS_TEST_WRITER_OF"
	waysOf   = "HOSTS_TEST_WRITER_WAYS"
	// openerOf makes it a run of another user.
	openerOf = "HOSTS_TEST_OPENER_OF"
)

// waysToWrite are those ways.
var waysToWrite = map[string]func(path, line string) error{"append": appendTo, "rename": renameWith, "truncate": truncateWith}

const programWrites = 200

// immutable is FS_IMMUTABLE_FL (linux/fs.h).
const immutable = 0x10

func TestMain(m *testing.M) {
	if path := os.Getenv(openerOf); path != "" {
		_, err := Open(path, "1001")
		fmt.Print(errors.Is(err, ErrInUse))
		return
	}
	if path := os.Getenv(writerOf); path != "" {
		runWriter(path)
		return
	}
	os.Exit(m.Run())
}

// runWriter adds a line for each byte that it reads, and says so.
func runWriter(path string) {
	in := bufio.NewReader(os.Stdin)
	ways := strings.Split(os.Getenv(waysOf), ",")
	for i := range programWrites {
		if _, err := in.ReadByte(); err != nil {
			panic(err)
		}
		line := fmt.Sprintf("10.0.0.%d theirs-%d\n", i, i)
		if err := waysToWrite[ways[i%len(ways)]](path, line); err != nil {
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

// renameWith does what sed -i does. It takes our lock for the moment in which it would
// else undo what was written since it read: no program can be kept from that.
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

// truncateWith does what an editor that keeps the inode does. The lock is for what it
// is in renameWith.
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
		_, writing := file.Write(part)
		err = errors.Join(err, writing)
	}
	return errors.Join(err, file.Close())
}

// A lock that another user has is one, though it can't be opened.
func TestLockOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be somebody else")
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
	out := asNobody(t, openerOf+"="+path)
	if out != "true" {
		t.Errorf("it isn't refused: %s", out)
	}
}

// asNobody runs the test's own program as a user without rights.
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
	for folder := filepath.Dir(program); folder != os.TempDir() && folder != "/"; folder = filepath.Dir(folder) {
		if err := os.Chmod(folder, 0o777); err != nil {
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

// Another program writes the file 200 times while names come and go: no line of its
// own is lost, and in the end none of ours is left.
func TestFileWithAnotherProgram(t *testing.T) {
	for _, ways := range []string{"append,rename", "append,rename,truncate"} {
		t.Run(ways, func(t *testing.T) {
			f, path := openTestFile(t)
			testAnotherProgram(t, f, path, ways)
		})
	}
}

func testAnotherProgram(t *testing.T, f *File, path, ways string) {
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), writerOf+"="+path, waysOf+"="+ways)
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
	t.Logf("%d programWrites of ours between %d of its", sets, programWrites)
	mustSet(t, f, nil)
	got := readFile(t, path)
	for i := range programWrites {
		if n := strings.Count(got, fmt.Sprintf("10.0.0.%d theirs-%d\n", i, i)); n != 1 {
			t.Errorf("its line %d is there %d times", i, n)
		}
	}
	if !strings.HasPrefix(got, original) || strings.Count(got, "\n") != programWrites+1 {
		t.Errorf("it has\n%s", got)
	}
}

// What a program appends through a descriptor that it opened before the file was
// replaced is taken over.
func TestFileTakesWhatComesLate(t *testing.T) {
	f, path := openTestFile(t)
	late, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	f.step = func(what string) error {
		if what == "rename" { // after the last comparison
			_, err := late.WriteString("10.0.0.1 late\n")
			f.step = func(string) error { return nil }
			return err
		}
		return nil
	}
	mustSet(t, f, testTable)
	if got, want := readFile(t, path), original+"10.0.0.1 late\n"+blockLines; got != want {
		t.Errorf("it has %q, want %q", got, want)
	}
}

// Extended attributes and the owner stay.
func TestFileKeepsAttributes(t *testing.T) {
	f, path := openTestFile(t)
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a file away")
	}
	if err := errors.Join(os.Chown(path, 1234, 2345), os.Chmod(path, 0o604), unix.Setxattr(path, "trusted.kubeshore-test", []byte("label"), 0)); err != nil {
		t.Fatal(err)
	}
	mustSet(t, f, testTable)
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil || stat.Uid != 1234 || stat.Gid != 2345 || stat.Mode&0o777 != 0o604 {
		t.Errorf("it is %+v, %v", stat, err)
	}
	value := make([]byte, 10)
	if n, err := unix.Getxattr(path, "trusted.kubeshore-test", value); string(value[:max(n, 0)]) != "label" {
		t.Errorf("its attribute is %q, %v", value[:max(n, 0)], err)
	}
}

// An immutable file is left alone, with a line that says what to look for.
func TestFileIsImmutable(t *testing.T) {
	f, path := openTestFile(t)
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make a file immutable")
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := unix.IoctlSetPointerInt(int(file.Fd()), unix.FS_IOC_SETFLAGS, immutable); err != nil {
		t.Fatalf("%s: this file system has no immutable files: %v", filepath.Dir(path), err)
	}
	defer func() { _ = unix.IoctlSetPointerInt(int(file.Fd()), unix.FS_IOC_SETFLAGS, 0) }()
	if _, err := f.Set(t.Context(), testTable); err == nil || !strings.Contains(err.Error(), "immutable") {
		t.Errorf("setting names says %v", err)
	}
	if got := readFile(t, path); got != original {
		t.Errorf("it has %q", got)
	}
	if _, err := Open(path, "1001"); err == nil || !strings.Contains(err.Error(), "immutable") {
		t.Errorf("opening it says %v", err)
	}
}
