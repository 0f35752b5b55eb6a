//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Every command that talks to a kubeshore in the background.
func TestBackgroundCommands(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	b := &background{ns: newNamespace(t), more: newNamespace(t)}
	apply(t, deployment(b.ns, "web", 1), service(b.ns, "web", 80, ""), service(b.more, "db", 5432, ""))
	waitForReadyPods(t, b.ns, "web", 1)
	b.ann, b.bob = newTestUser(t, "ann", "NOPASSWD: ALL"), newTestUser(t, "bob", "NOPASSWD: ALL")
	before := readHosts(t)
	for _, command := range []string{"ps", "wait", "logs", "down", "add -n x", "remove -n x"} {
		b.ann.expect(t, "./kubeshore "+command, 1, "kubeshore: not running\nhint: start it with kubeshore up\n")
	}

	b.start(t)
	b.testStatus(t)
	b.testAddRemove(t)
	b.testCompletion(t)
	t.Run("removed socket is recreated", b.testRemovedSocket)
	t.Run("another user has no access", b.testAccess)
	t.Run("second user", b.testSecondUser)
	b.stop(t)
	b.ann.checkCleanedUp(t, before)
	b.testLogAfterEnd(t)
	if others := runCommand(t, "find", b.ann.home, "!", "-user", "ann"); others != "" {
		t.Errorf("got files of other users in the home directory, want none: %s", others)
	}
}

// background is a kubeshore that ann runs in the background to forward ns.
type background struct {
	ann, bob testUser
	ns, more string // more has a Service without pods
	pid      int
	logFile  string
}

func (b *background) start(t *testing.T) {
	t.Helper()
	b.ann.expect(t, "./kubeshore up -d -n "+b.ns, 0, "): 1 of 1 services ready. Status: kubeshore ps · log: kubeshore logs -f · stop: kubeshore down\n")
	t.Cleanup(func() { b.ann.run(t, "./kubeshore down") })
	mustGet(t, "http://web."+b.ns)
	b.pid = b.ann.processes(t).daemon
	const session = 5 // its index in /proc/PID/stat
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.pid)); err != nil || strings.Fields(string(stat))[session] != strconv.Itoa(b.pid) {
		t.Errorf("got stat %s, %v; want a separate session", stat, err)
	}
}

// testStatus checks wait, ps, and up while kubeshore is running.
func (b *background) testStatus(t *testing.T) {
	t.Helper()
	b.ann.expect(t, "./kubeshore wait", 0, "")
	b.ann.expect(t, "./kubeshore wait web web."+b.ns, 0, "")
	b.ann.expect(t, "./kubeshore wait nope --timeout 100ms", 1, "not ready after 100ms: no such service: nope\n")
	b.ann.expect(t, "./kubeshore ps", 0, "web."+b.ns)
	b.ann.expect(t, "./kubeshore ps -o name", 0, "web."+b.ns+"\n")
	var status struct {
		PID      int
		LogFile  string
		Services []struct {
			Name, State                 string
			TotalConnections, BytesDown int
		}
	}
	if err := json.Unmarshal([]byte(b.ann.expect(t, "./kubeshore ps -o json", 0, "")), &status); err != nil {
		t.Fatal(err)
	}
	b.logFile = status.LogFile
	if status.PID != b.pid || len(status.Services) != 1 || status.Services[0].State != "ready" || status.Services[0].TotalConnections != 1 || status.Services[0].BytesDown == 0 {
		t.Errorf("got status %+v, want process %d with a ready service that had one connection", status, b.pid)
	}
	for _, line := range []string{"./kubeshore up -n " + b.ns, "./kubeshore up -d -n " + b.ns, "sudo ./kubeshore up -n " + b.ns, "./kubeshore up --rootless -n " + b.ns} {
		b.ann.expect(t, line, 1, fmt.Sprintf("kubeshore: already running (pid %d, since ", b.pid))
	}
}

// testAddRemove adds and removes a namespace.
func (b *background) testAddRemove(t *testing.T) {
	t.Helper()
	noPods := "db." + b.more + ": no pods\n"
	b.ann.expect(t, "./kubeshore add -n "+b.more, 0, "forwarding namespaces "+b.ns+", "+b.more+" of context ")
	b.ann.expect(t, "./kubeshore wait --timeout 3s", 1, noPods) // waits until the added namespace was read
	eventually(t, "the added namespace's service resolves", resolves("db."+b.more))
	b.ann.expect(t, "./kubeshore wait --timeout 100ms", 1, noPods)
	b.ann.expect(t, "./kubeshore remove -n "+b.more, 0, "forwarding namespace "+b.ns+" of context ")
	eventually(t, "the removed namespace's service doesn't resolve", unresolvable("db."+b.more))
	b.ann.expect(t, "./kubeshore remove -n "+b.ns, 1, "can't remove the last namespace; stop kubeshore with kubeshore down\n")
	b.ann.expect(t, "./kubeshore add -n "+b.ns, 1, " is already forwarded\n")
	b.ann.expect(t, "./kubeshore logs --tail 1", 0, "- db."+b.more)
	b.ann.expect(t, "sudo ./kubeshore ps -o name", 0, "web."+b.ns+"\n")
}

func (b *background) testCompletion(t *testing.T) {
	t.Helper()
	b.ann.expect(t, "./kubeshore __complete wait ''", 0, "web."+b.ns+"\tready\n")
	b.ann.expect(t, "./kubeshore __complete remove -n ''", 0, b.ns+"\n")
	b.ann.expect(t, "./kubeshore __complete up -n ''", 0, b.more+"\n")
	b.ann.expect(t, "./kubeshore __complete up -n "+b.ns+","+b.more+" --include web."+b.ns+",", 0, "web."+b.ns+",db."+b.more+"\n")
}

func (b *background) socket() string {
	return filepath.Join(b.ann.home, ".local/state/kubeshore/kubeshore.sock")
}

func (b *background) testRemovedSocket(t *testing.T) {
	if err := os.Remove(b.socket()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the socket exists again", func() error {
		_, err := os.Stat(b.socket())
		return err
	})
	b.ann.expect(t, "./kubeshore ps", 0, "web."+b.ns)
}

// testAccess checks that another user can't use the socket, not even if the
// file permissions allow it.
func (b *background) testAccess(t *testing.T) {
	b.bob.expect(t, "./kubeshore ps", 1, "kubeshore: not running\n")
	if _, err := os.Stat(b.socket()); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", ".local/state/kubeshore", ".local/state/kubeshore/kubeshore.sock"} {
		if path != "" {
			runCommand(t, "chmod", "-R", "a+rwX", filepath.Join(b.ann.home, path))
		}
		runCommand(t, "chmod", "a+x", b.ann.home)
		if status, out := b.bob.run(t, "curl -sS -m 5 --unix-socket "+b.socket()+" http://x/v1/status"); status == 0 {
			t.Errorf("with %q accessible to all: got status 0 and %s, want an error", path, out)
		}
	}
}

func (b *background) testSecondUser(t *testing.T) {
	b.bob.expect(t, "./kubeshore up -d --domain bobs.test -n "+b.ns, 0, "running in the background (pid ")
	mustGet(t, "http://web."+b.ns+".bobs.test")
	b.bob.expect(t, "./kubeshore down", 0, ") stopped and cleaned up\n")
	mustGet(t, "http://web."+b.ns)
}

func (b *background) stop(t *testing.T) {
	t.Helper()
	b.ann.expect(t, "./kubeshore down", 0, fmt.Sprintf("kubeshore (pid %d) stopped and cleaned up\n", b.pid))
}

func (b *background) testLogAfterEnd(t *testing.T) {
	t.Helper()
	b.ann.expect(t, "./kubeshore logs", 1, "kubeshore: not running\nhint: the log of the last run in the background is "+b.logFile+"\n")
	const want = `msg="cleaned up"`
	if log, err := os.ReadFile(b.logFile); err != nil || !strings.Contains(string(log), want) {
		t.Errorf("got log\n%s\n%v; want it to contain %q", log, err, want)
	}
}

func TestRepeatedBackgroundRunsLeaveNothing(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := namespaceWithWeb(t)
	ann := newTestUser(t, "ann", "NOPASSWD: ALL")
	before := readHosts(t)
	for i := range 20 {
		line := []string{"./kubeshore up", "sudo ./kubeshore up"}[i%2]
		ann.expect(t, line+" -d -n "+ns, 0, "1 of 1 services ready")
		mustGet(t, "http://web."+ns)
		ann.expect(t, "./kubeshore down", 0, "stopped and cleaned up")
		ann.checkCleanedUp(t, before)
	}
	if files := runCommand(t, "find", ann.home, "-newer", filepath.Join(ann.home, "kubeshore"), "-type", "f"); strings.Count(files, "\n") > 4 {
		t.Errorf("got new files in the home directory, want 5 at most:\n%s", files)
	}
}

// up -d that gets SIGTERM at any time before it has detached exits with status
// 0 if kubeshore is running, and otherwise leaves nothing behind.
func TestSignalDuringDetachIsConsistent(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := namespaceWithWeb(t)
	ann := newTestUser(t, "ann", "NOPASSWD: ALL")
	before := readHosts(t)
	ended := 0
	for i := range 60 {
		delay := time.Duration(i/2) * 5 * time.Millisecond
		line := []string{"./kubeshore up", "sudo ./kubeshore up"}[i%2] + " -d -n " + ns
		status, out := ann.run(t, fmt.Sprintf("bash -c '%s & sleep %.3f; kill -TERM $!; wait $!'", line, delay.Seconds()))
		psStatus, _ := ann.run(t, "./kubeshore ps -o name")
		if (status == 0) != (psStatus == 0) {
			t.Errorf("%s, SIGTERM after %v: got status %d, but %d from ps: %s", line, delay, status, psStatus, out)
		}
		if psStatus == 0 {
			ann.expect(t, "./kubeshore down", 0, "stopped and cleaned up")
		} else {
			ended++
		}
		ann.checkCleanedUp(t, before)
	}
	t.Logf("%d of 60 runs ended", ended)
}

// Closing a terminal doesn't end a kubeshore that was started in it with -d.
func TestBackgroundOutlivesTerminal(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := namespaceWithWeb(t)
	ann := newTestUser(t, "ann", "NOPASSWD: ALL")
	before := readHosts(t)
	for _, line := range []string{"./kubeshore up", "sudo ./kubeshore up"} {
		term := ann.inTerminal(t, "bash -c '"+line+" -d -n "+ns+"; read'", 80)
		term.waitForLog(t, "running in the background (pid ")
		pid := ann.processes(t).daemon
		if err := term.keys.Close(); err != nil {
			t.Fatal(err)
		}
		<-term.exited
		mustGet(t, "http://web."+ns)
		if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
			t.Error(err)
		}
		mustGet(t, "http://web."+ns)
		ann.expect(t, "./kubeshore down", 0, "stopped and cleaned up")
		ann.checkCleanedUp(t, before)
	}
}

// A kubeshore in the background doesn't keep the caller's files open, e.g. a
// lock file.
func TestBackgroundHoldsNoInheritedFiles(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""))
	ann := newTestUser(t, "ann", "NOPASSWD: ALL")
	before := readHosts(t)
	for _, line := range []string{"./kubeshore up", "sudo ./kubeshore up"} {
		ann.expect(t, "bash -c '( flock 9; "+line+" -d --wait 0s --metrics 127.0.0.1:0 -n "+ns+" ) 9>lock && flock -n lock echo lock is free'", 0, "lock is free")
		ann.expect(t, "./kubeshore logs", 0, "serving metrics at http://127.0.0.1:")
		ann.expect(t, "./kubeshore down", 0, "stopped and cleaned up")
		ann.checkCleanedUp(t, before)
	}
}
