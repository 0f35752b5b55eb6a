//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// In containers the hosts file is a bind mount, which can't be replaced by a
// rename.
func TestBindMountedHostsFileIsWrittenInPlace(t *testing.T) {
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""))
	source, target := filepath.Join(t.TempDir(), "source"), filepath.Join(t.TempDir(), "hosts")
	const before = "127.0.0.1 localhost # no line end"
	for _, path := range []string{source, target} {
		if err := os.WriteFile(path, []byte(before), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mount(source, target, "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Unmount(target, 0) }()
	d := up(t, "-n", ns, "--hosts-file", target)
	if got, _ := os.ReadFile(source); !strings.Contains(string(got), " web."+ns+" ") {
		t.Errorf("got hosts file\n%s\nwant it to contain web.%s", got, ns)
	}
	d.stop(t, syscall.SIGTERM)
	if after, _ := os.ReadFile(source); string(after) != before {
		t.Errorf("got hosts file %q, want %q", after, before)
	}
}

func TestReadOnlyHostsFileFailsAtStart(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "hosts")
	if err := os.WriteFile(path, []byte("127.0.0.1 localhost\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(dir, dir, "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Unmount(dir, 0) }()
	if err := syscall.Mount("", dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	expectFailure(t, "read-only file system\nhint: remount its file system writable, or use --hosts-file FILE to write the names to another file\n", "up", "--hosts-file", path)
}

// On a full disk no names can be added, but those of the run can be removed.
func TestFullDiskKeepsExistingHostsEntries(t *testing.T) {
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""))
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=755"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }()
	path := filepath.Join(dir, "hosts")
	const before = "127.0.0.1 localhost\n"
	if err := os.WriteFile(path, []byte(before), 0o644); err != nil {
		t.Fatal(err)
	}
	d := up(t, "-n", ns, "--hosts-file", path)
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 64<<10), 0o644); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill disk: got %v, want %v", err, syscall.ENOSPC)
	}
	apply(t, service(ns, "more", 80, ""))
	d.waitForLog(t, "no space left on device")
	if got, _ := os.ReadFile(path); !strings.Contains(string(got), " web."+ns+" ") {
		t.Errorf("got hosts file\n%s\nwant it to contain web.%s", got, ns)
	}
	d.stop(t, syscall.SIGTERM)
	if after, _ := os.ReadFile(path); string(after) != before {
		t.Errorf("got hosts file %q, want %q", after, before)
	}
}

// The guard cleans up after a killed run. If the guard was killed too, the
// next start does.
func TestKilledRunIsCleanedUp(t *testing.T) {
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""))
	d := up(t, "-n", ns)
	if err := d.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-d.exited
	eventually(t, "the guard cleans up", d.hostsRestored)
	d = up(t, "-n", ns)
	all := append(childrenOf(t, d.Process.Pid), d.Process.Pid)
	for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} { // stopped first, so that none notices the end of another
		for _, process := range all {
			if err := syscall.Kill(process, signal); err != nil {
				t.Fatal(err)
			}
		}
	}
	<-d.exited
	if _, err := resolve("web." + ns); err != nil {
		t.Fatalf("resolve the name of the killed run: got %v, want an address", err)
	}
	again := up(t, "-n", ns)
	again.hostsBefore = d.hostsBefore
	again.stop(t, syscall.SIGTERM)
}

// childrenOf returns the child processes of a process.
func childrenOf(t *testing.T, pid int) []int {
	t.Helper()
	text, err := exec.Command("ps", "-o", "pid=", "--ppid", strconv.Itoa(pid)).Output()
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text))
	all := make([]int, 0, len(fields))
	for _, field := range fields {
		child, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, child)
	}
	return all
}

func TestUpWithoutRootFailsWithHint(t *testing.T) {
	copied := filepath.Join(t.TempDir(), "kubeshore") // in a directory that user nobody can read
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, content, 0o755); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(copied); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(filepath.Dir(copied), "kubeconfig")
	if err := os.WriteFile(config, []byte(kubectl(t, "", "config", "view", "--raw", "--minify", "--flatten")), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(copied, "up", "--kubeconfig", config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("got %v, want status 1", err)
	}
	const want = "kubeshore: root is required for the hosts file and for ports, and sudo can't ask for a password without a terminal"
	if output := string(out); !strings.Contains(output, want) || !errorMessage.MatchString(output) {
		t.Errorf("got output %q, want an error message with %q", output, want)
	}
}

// A block that another program removed is restored. A name in a line of the
// user is taken over when that line is removed.
func TestHostsBlockIsRestoredAfterForeignWrite(t *testing.T) {
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""), service(ns, "db", 5432, ""))
	d := up(t, "-n", ns)
	if err := os.WriteFile(hostsFile, append(bytes.Clone(d.hostsBefore), "192.0.2.7 db."+ns+"\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	took := eventually(t, "the block is restored", resolves("web."+ns))
	t.Logf("the block was restored after %v", took)
	d.waitForLog(t, "name db."+ns+": already mapped to 192.0.2.7 in "+hostsFile)
	if at, err := resolve("db." + ns); at != "192.0.2.7" {
		t.Errorf("name in a line of the user: got address %s, %v; want 192.0.2.7", at, err)
	}
	with, err := os.ReadFile(hostsFile)
	if err != nil {
		t.Fatal(err)
	}
	without := bytes.Replace(with, []byte("192.0.2.7 db."+ns+"\n"), nil, 1)
	if err := os.WriteFile(hostsFile, without, 0o644); err != nil {
		t.Fatal(err)
	}
	took = eventually(t, "the name is taken over", func() error {
		at, err := resolve("db." + ns)
		if err == nil && at == "192.0.2.7" {
			err = errors.New("got the address of the user's line")
		}
		return err
	})
	t.Logf("the name was taken over after %v", took)
}

// Another program writes to the hosts file in different ways while Services are
// added and removed. None of its lines is lost, and kubeshore leaves none of its
// own lines behind.
func TestConcurrentHostsWritesAreKept(t *testing.T) {
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""))
	d := up(t, "-n", ns)
	churnServices(t, ns)

	want := make([]string, 0, 200)
	for i := range cap(want) {
		line := fmt.Sprintf("192.0.2.%d theirs-%d\n", i, i)
		write := []func(string) error{appendLine, rewriteWithLine, replaceWithLine}[i%3]
		if err := write(line); err != nil {
			t.Fatal(err)
		}
		want = append(want, strings.TrimSpace(line))
		pause(t, rand.N(20*time.Millisecond))
	}
	slices.Sort(want)
	theirs := func(text []byte) []string {
		lines := slices.DeleteFunc(strings.Split(string(text), "\n"), func(line string) bool { return !strings.Contains(line, "theirs-") })
		slices.Sort(lines)
		return lines
	}
	content, err := os.ReadFile(hostsFile)
	if err != nil {
		t.Fatal(err)
	}
	if got := theirs(content); !slices.Equal(got, want) {
		t.Errorf("got %d lines of the other program, want %d; hosts file:\n%s", len(got), len(want), content)
	}
	eventually(t, "the block exists", resolves("web."+ns))
	if err := d.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-d.exited
	after, err := os.ReadFile(hostsFile)
	if err != nil || !slices.Equal(theirs(after), want) || strings.Contains(string(after), "kubeshore") {
		t.Errorf("got hosts file\n%s\n%v; want the lines of the other program and none of kubeshore", after, err)
	}
	if err := os.WriteFile(hostsFile, d.hostsBefore, 0o644); err != nil {
		t.Fatal(err)
	}
}

// appendLine changes the hosts file like echo >>.
func appendLine(line string) error {
	file, err := os.OpenFile(hostsFile, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(line)
	return errors.Join(err, file.Close())
}

// rewriteWithLine changes the hosts file like an editor that keeps the inode.
func rewriteWithLine(line string) error {
	content, err := os.ReadFile(hostsFile)
	if err != nil {
		return err
	}
	return os.WriteFile(hostsFile, append(content, line...), 0o644)
}

// replaceWithLine changes the hosts file like sed -i.
func replaceWithLine(line string) error {
	content, err := os.ReadFile(hostsFile)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(hostsFile+".new", append(content, line...), 0o644), os.Rename(hostsFile+".new", hostsFile))
}

// A server of the user listens on a Service's port on all addresses, opened
// before or after kubeshore started. Both work. With one socket per port the
// conflict is logged with the server's name, and the port is opened when it
// becomes free.
func TestWildcardListenerOnSamePortIsUndisturbed(t *testing.T) {
	ns := newNamespace(t)
	apply(t, deployment(ns, "web", 1), service(ns, "web", 8099, ""))
	waitForReadyPods(t, ns, "web", 1)
	checkBoth := func() {
		t.Helper()
		mustGet(t, "http://web."+ns+":8099")
		if err := wildcardServerAnswers(); err != nil {
			t.Error(err)
		}
	}
	earlier := wildcardServer(t)
	d := up(t, "-n", ns, "-v")
	d.waitForLog(t, "listening with one socket for all ports (sk_lookup)")
	checkBoth()
	if err := earlier.Close(); err != nil {
		t.Fatal(err)
	}
	later := wildcardServer(t)
	checkBoth()
	address, err := resolve("web." + ns)
	if err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("tcp", ":8098")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := refused("http://" + address + ":8098"); err != nil {
		t.Errorf("port that isn't in the service: %v", err)
	}
	d.stop(t, syscall.SIGTERM)

	d = up(t, "-n", ns, "-v", "--listen", "each")
	d.waitForLog(t, "listening with one socket per port (as requested)")
	d.waitForLog(t, fmt.Sprintf("port 8099 on %s: in use by e2e.test (pid %d)", address, os.Getpid()))
	if err := later.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the port is taken over", answered("http://web."+ns+":8099"))
}

// wildcardServer serves HTTP on port 8099 of all addresses. It stops when the
// listener is closed, or when the test ends.
func wildcardServer(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", ":8099")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "mine") })}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return l
}

func wildcardServerAnswers() error {
	resp, err := http.Get("http://127.0.0.1:8099")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if string(text) != "mine" {
		return fmt.Errorf("server on all addresses: got %q, want mine", text)
	}
	return nil
}
