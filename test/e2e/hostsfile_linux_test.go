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

// In a container the hosts file is a bind mount, which can't be renamed over.
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
	if has, _ := os.ReadFile(source); !strings.Contains(string(has), " web."+ns+" ") {
		t.Errorf("it has\n%s", has)
	}
	d.stop(t, syscall.SIGTERM)
	if after, _ := os.ReadFile(source); string(after) != before {
		t.Errorf("it had %q and has %q", before, after)
	}
}

// A hosts file that can't be written is a fault at the start.
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
	expectFailure(t, "read-only file system; it must be a file that can be written", "up", "--hosts-file", path)
}

// A full disk keeps the names from being added, not from being taken back.
func TestFullDiskKeepsExistingHostsEntries(t *testing.T) {
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""))
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
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
		t.Fatalf("the disk isn't full: %v", err)
	}
	apply(t, service(ns, "more", 80, ""))
	d.waitForLog(t, "no space left on device")
	if has, _ := os.ReadFile(path); !strings.Contains(string(has), " web."+ns+" ") {
		t.Errorf("it has lost what it had:\n%s", has)
	}
	d.stop(t, syscall.SIGTERM)
	if after, _ := os.ReadFile(path); string(after) != before {
		t.Errorf("it had %q and has %q", before, after)
	}
}

// What a killed run has left is taken away by the guard; where that was killed too, by
// the next start.
func TestKilledRunIsCleanedUp(t *testing.T) {
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""))
	d := up(t, "-n", ns)
	if err := d.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-d.exited
	eventually(t, "the guard puts it right", d.hostsRestored)
	d = up(t, "-n", ns)
	all := append(childrenOf(t, d.Process.Pid), d.Process.Pid)
	for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} { // none sees another's end
		for _, process := range all {
			if err := syscall.Kill(process, signal); err != nil {
				t.Fatal(err)
			}
		}
	}
	<-d.exited
	if _, err := resolve("web." + ns); err != nil {
		t.Fatalf("the kill left nothing to put right: %v", err)
	}
	again := up(t, "-n", ns)
	again.hostsBefore = d.hostsBefore
	again.stop(t, syscall.SIGTERM)
}

// childrenOf returns the processes that a process has started.
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

// Without root it says so, and what to do.
func TestUpWithoutRootFailsWithHint(t *testing.T) {
	copied := filepath.Join(t.TempDir(), "kubeshore") // where nobody may run it
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
		t.Errorf("%v, want status 1", err)
	}
	if said := string(out); !strings.Contains(said, "kubeshore needs root for the hosts file and for ports") || strings.Count(said, "\n") != 1 {
		t.Errorf("it says %q", said)
	}
}

// A block that another program drops comes back, and a name that the user's own line
// has is taken up when that line goes.
func TestHostsBlockIsRestoredAfterForeignWrite(t *testing.T) {
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""), service(ns, "db", 5432, ""))
	d := up(t, "-n", ns)
	if err := os.WriteFile(hostsFile, append(bytes.Clone(d.hostsBefore), "192.0.2.7 db."+ns+"\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	took := eventually(t, "the block is back", func() error {
		_, err := resolve("web." + ns)
		return err
	})
	t.Logf("the block was back after %v", took)
	d.waitForLog(t, "the hosts file has the name db."+ns+" already, for 192.0.2.7")
	if at, err := resolve("db." + ns); at != "192.0.2.7" {
		t.Errorf("the user's own name is at %s, %v", at, err)
	}
	with, err := os.ReadFile(hostsFile)
	if err != nil {
		t.Fatal(err)
	}
	without := bytes.Replace(with, []byte("192.0.2.7 db."+ns+"\n"), nil, 1)
	if err := os.WriteFile(hostsFile, without, 0o644); err != nil {
		t.Fatal(err)
	}
	took = eventually(t, "the name is taken up", func() error {
		at, err := resolve("db." + ns)
		if err == nil && at == "192.0.2.7" {
			err = errors.New("it is still the user's")
		}
		return err
	})
	t.Logf("the name was taken up after %v", took)
}

// Another program writes the hosts file 200 times, in each way that programs have, while
// Services come and go: none of its lines is lost, and in the end none of ours is left.
func TestConcurrentHostsWritesAreKept(t *testing.T) {
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""))
	d := up(t, "-n", ns)
	churnServices(t, ns)

	ways := []func(line string) error{
		func(line string) error { // echo >>
			file, err := os.OpenFile(hostsFile, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			_, err = file.WriteString(line)
			return errors.Join(err, file.Close())
		},
		func(line string) error { // an editor that keeps the inode
			content, err := os.ReadFile(hostsFile)
			if err != nil {
				return err
			}
			return os.WriteFile(hostsFile, append(content, line...), 0o644)
		},
		func(line string) error { // sed -i
			content, err := os.ReadFile(hostsFile)
			if err != nil {
				return err
			}
			return errors.Join(os.WriteFile(hostsFile+".new", append(content, line...), 0o644), os.Rename(hostsFile+".new", hostsFile))
		},
	}
	want := make([]string, 0, 200)
	for i := range cap(want) {
		line := fmt.Sprintf("192.0.2.%d theirs-%d\n", i, i)
		if err := ways[i%len(ways)](line); err != nil {
			t.Fatal(err)
		}
		want = append(want, strings.TrimSpace(line))
		pause(t, rand.N(20*time.Millisecond))
	}
	slices.Sort(want)
	mine := func(text []byte) []string {
		lines := slices.DeleteFunc(strings.Split(string(text), "\n"), func(line string) bool { return !strings.Contains(line, "theirs-") })
		slices.Sort(lines)
		return lines
	}
	has, err := os.ReadFile(hostsFile)
	if err != nil {
		t.Fatal(err)
	}
	if lines := mine(has); !slices.Equal(lines, want) {
		t.Errorf("of 200 lines it has %d:\n%s", len(lines), has)
	}
	eventually(t, "the block is there", func() error {
		_, err := resolve("web." + ns)
		return err
	})
	if err := d.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-d.exited
	after, err := os.ReadFile(hostsFile)
	if err != nil || !slices.Equal(mine(after), want) || strings.Contains(string(after), "kubeshore") {
		t.Errorf("it is left as\n%s, %v", after, err)
	}
	if err := os.WriteFile(hostsFile, d.hostsBefore, 0o644); err != nil {
		t.Fatal(err)
	}
}

// A user's server listens on all addresses on a port that a service has, from before and
// from later, and neither is in the other's way. With a socket for each port the fault
// is said, with the server's name, and the port is taken over when it is free.
func TestWildcardListenerOnSamePortIsUndisturbed(t *testing.T) {
	ns := newNamespace(t)
	apply(t, deployment(ns, "web", 1), service(ns, "web", 8099, ""))
	waitForReadyPods(t, ns, "web", 1)
	serve := func() net.Listener {
		l, err := net.Listen("tcp", ":8099")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "mine") })}
		go func() { _ = server.Serve(l) }()
		t.Cleanup(func() { _ = server.Close() })
		return l
	}
	mine := func() error {
		answer, err := http.Get("http://127.0.0.1:8099")
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if text, err := io.ReadAll(answer.Body); string(text) != "mine" {
			return fmt.Errorf("it says %q, %w", text, err)
		}
		return nil
	}
	before := serve()
	d := up(t, "-n", ns)
	d.waitForLog(t, "ports: one socket for all ports (sk_lookup)")
	mustGet(t, "http://web."+ns+":8099")
	if err := mine(); err != nil {
		t.Error(err)
	}
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	later := serve()
	mustGet(t, "http://web."+ns+":8099")
	if err := mine(); err != nil {
		t.Error(err)
	}
	at, err := resolve("web." + ns)
	if err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("tcp", ":8098")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := refused("http://" + at + ":8098"); err != nil {
		t.Errorf("a port that the service doesn't have: %v", err)
	}
	d.stop(t, syscall.SIGTERM)

	d = up(t, "-n", ns, "--listen", "each")
	d.waitForLog(t, "ports: a socket for each port (as asked for)")
	d.waitForLog(t, fmt.Sprintf("port 8099 of %s is in use by e2e.test (process %d)", at, os.Getpid()))
	if err := later.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the port is taken over", answered("http://web."+ns+":8099"))
}
