//go:build e2e

package e2e

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// A run in the background that fails reports why and leaves nothing behind.
func TestFailedBackgroundRunsLeaveNothing(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""))
	ann := newTestUser(t, "ann", "NOPASSWD: ALL")
	before := readHosts(t)
	testBackgroundErrors(t, ann, ns)
	ann.checkCleanedUp(t, before)
	for _, line := range []string{"./kubeshore up", "sudo ./kubeshore up"} {
		testSignalWhileWaiting(t, ann, ns, line)
		ann.checkCleanedUp(t, before)
	}
	testStaleSocket(t, ann, ns)
	ann.checkCleanedUp(t, before)
	t.Run("suspended", func(t *testing.T) {
		testSuspendedBackground(t, ann, ns)
		ann.checkCleanedUp(t, before)
	})
	t.Run("full disk", func(t *testing.T) { testBackgroundOnFullDisk(t, ann, ns) })
	ann.checkCleanedUp(t, before)
}

func (u testUser) backgroundLog() string {
	return filepath.Join(u.home, ".local/state/kubeshore/kubeshore.log")
}

// testBackgroundErrors checks errors at the start, and a service that doesn't
// become ready.
func testBackgroundErrors(t *testing.T, u testUser, ns string) {
	t.Helper()
	u.expect(t, "./kubeshore up -d --kubeconfig nothing", 1, "nothing")
	u.expect(t, "./kubeshore up -d --hosts-file /nothing/hosts", 1, "/nothing: no such file or directory")
	u.expect(t, "sudo ./kubeshore up -d --hosts-file /nothing/hosts", 1, "/nothing: no such file or directory")
	want := regexp.MustCompile(`time="\d{4}-\d\d-\d\d \d\d:\d\d:\d\d" level=error msg=".*/nothing: no such file or directory`)
	if log, err := os.ReadFile(u.backgroundLog()); err != nil || !want.Match(log) {
		t.Errorf("got log\n%s\n%v; want a match of %s", log, err, want)
	}
	u.expect(t, "./kubeshore up -d --metrics 192.0.2.1:1 -n "+ns, 1, "--metrics 192.0.2.1:1: ")
	u.expect(t, "./kubeshore up -d --wait 300ms -n "+ns, 0, "not ready after 300ms: web."+ns+": no pods")
	u.expect(t, "./kubeshore down", 0, "stopped and cleaned up")
}

// testSignalWhileWaiting ends a run that waits for services to become ready.
func testSignalWhileWaiting(t *testing.T, u testUser, ns, line string) {
	t.Helper()
	d := startDaemon(t, u.command(line+" -d --wait 1m -n "+ns))
	d.waitForLog(t, "ready")
	pid := u.processes(t).daemon
	if strings.HasPrefix(line, "sudo") {
		pid = u.processes(t).keeper
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-d.exited
	if d.err == nil {
		t.Errorf("%s: got no error after SIGTERM, want one; output:\n%s", line, d.log.String())
	}
}

// testStaleSocket starts a run after one that was killed and left its socket.
func testStaleSocket(t *testing.T, u testUser, ns string) {
	t.Helper()
	u.expect(t, "./kubeshore up -d --wait 0s -n "+ns, 0, "running in the background (pid ")
	u.killAll(t)
	u.expect(t, "./kubeshore ps", 1, "kubeshore: not running\n")
	u.expect(t, "./kubeshore up -d --wait 0s -n "+ns, 0, "running in the background (pid ")
	u.expect(t, "./kubeshore down", 0, "stopped and cleaned up")
}

// testSuspendedBackground starts a second run while the first is suspended. The
// second one doesn't write to the log of the first.
func testSuspendedBackground(t *testing.T, u testUser, ns string) {
	u.expect(t, "./kubeshore up -d --wait 0s -n "+ns, 0, "running in the background (pid ")
	eventually(t, "the service resolves", resolves("web."+ns)) // the initial sync has a timeout
	pid := u.processes(t).daemon
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	u.expect(t, "./kubeshore up -d --wait 0s -n "+ns, 1, "already running")
	const unwanted = "already running"
	if log, err := os.ReadFile(u.backgroundLog()); err != nil || strings.Contains(string(log), unwanted) {
		t.Errorf("got log\n%s\n%v; want it not to contain %q", log, err, unwanted)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	u.expect(t, "./kubeshore down", 0, "stopped and cleaned up")
}

func testBackgroundOnFullDisk(t *testing.T, u testUser, ns string) {
	state := filepath.Dir(u.backgroundLog())
	if err := syscall.Mount("tmpfs", state, "tmpfs", 0, "size=16k,mode=0700,uid="+strconv.Itoa(u.uid)); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Unmount(state, syscall.MNT_DETACH) }()
	filler, err := os.Create(filepath.Join(state, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(filler, io.LimitReader(zeroes{}, 1<<20)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill disk: got %v, want %v", err, syscall.ENOSPC)
	}
	_ = filler.Close()
	u.expect(t, "./kubeshore up -d --wait 0s -n "+ns, 0, "running in the background (pid ")
	eventually(t, "ps lists the service", func() error {
		if _, out := u.run(t, "./kubeshore ps"); !strings.Contains(out, "web."+ns) {
			return errors.New(out)
		}
		return nil
	})
	u.expect(t, "./kubeshore logs", 0, "ready")
	u.expect(t, "./kubeshore down", 0, "stopped and cleaned up")
}

// zeroes is an endless reader of zero bytes.
type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
