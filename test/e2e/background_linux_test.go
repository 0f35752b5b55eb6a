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

// In the background: every command that speaks to it.
func TestBackgroundCommands(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns, more := newNamespace(t), newNamespace(t)
	apply(t, deployment(ns, "web", 1), service(ns, "web", 80, ""), service(more, "db", 5432, ""))
	waitForReadyPods(t, ns, "web", 1)
	ann, bob := newTestUser(t, "ann", "NOPASSWD: ALL"), newTestUser(t, "bob", "NOPASSWD: ALL")
	before := readHosts(t)
	for _, command := range []string{"ps", "wait", "logs", "down", "add -n x", "remove -n x"} {
		ann.expect(t, "./kubeshore "+command, 1, "kubeshore isn't running: start it with kubeshore up\n")
	}

	ann.expect(t, "./kubeshore up -d -n "+ns, 0, ": 1 of 1 services can answer. See kubeshore ps, logs, down.\n")
	t.Cleanup(func() { ann.run(t, "./kubeshore down") })
	mustGet(t, "http://web."+ns)
	daemon := ann.processes(t).daemon
	if session, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", daemon)); err != nil || strings.Fields(string(session))[5] != strconv.Itoa(daemon) {
		t.Errorf("it has no session of its own: %s, %v", session, err)
	}
	ann.expect(t, "./kubeshore wait", 0, "")
	ann.expect(t, "./kubeshore wait web web."+ns, 0, "")
	ann.expect(t, "./kubeshore wait nope --timeout 100ms", 1, "not ready after 100ms: no service is called nope\n")
	ann.expect(t, "./kubeshore ps", 0, "web."+ns)
	ann.expect(t, "./kubeshore ps -o name", 0, "web."+ns+"\n")
	var status struct {
		PID      int
		LogFile  string
		Services []struct {
			Name, State                 string
			TotalConnections, BytesDown int
		}
	}
	if err := json.Unmarshal([]byte(ann.expect(t, "./kubeshore ps -o json", 0, "")), &status); err != nil {
		t.Fatal(err)
	}
	if status.PID != daemon || len(status.Services) != 1 || status.Services[0].State != "ready" || status.Services[0].TotalConnections != 1 || status.Services[0].BytesDown == 0 {
		t.Errorf("its status is %+v", status)
	}
	for _, line := range []string{"./kubeshore up -n " + ns, "./kubeshore up -d -n " + ns, "sudo ./kubeshore up -n " + ns, "./kubeshore up --rootless -n " + ns} {
		ann.expect(t, line, 1, fmt.Sprintf("kubeshore runs already: process %d, since ", daemon))
	}
	ann.expect(t, "./kubeshore add -n "+more, 0, "forwarding namespaces "+ns+", "+more+" of context ")
	ann.expect(t, "./kubeshore wait --timeout 3s", 1, "db."+more+": it has no pods\n") // it doesn't end before that is known
	eventually(t, "the further namespace's name is there", func() error {
		_, err := resolve("db." + more)
		return err
	})
	ann.expect(t, "./kubeshore wait --timeout 100ms", 1, "db."+more+": it has no pods\n")
	ann.expect(t, "./kubeshore remove -n "+more, 0, "forwarding namespace "+ns+" of context ")
	eventually(t, "it is gone", unresolvable("db."+more))
	ann.expect(t, "./kubeshore remove -n "+ns, 1, "it is the last namespace: end kubeshore with kubeshore down instead\n")
	ann.expect(t, "./kubeshore add -n "+ns, 1, "is forwarded already\n")
	ann.expect(t, "./kubeshore logs --tail 1", 0, "- db."+more)
	ann.expect(t, "sudo ./kubeshore ps -o name", 0, "web."+ns+"\n")
	ann.expect(t, "./kubeshore __complete wait ''", 0, "web."+ns+"\tready\n")
	ann.expect(t, "./kubeshore __complete remove -n ''", 0, ns+"\n")
	ann.expect(t, "./kubeshore __complete up -n ''", 0, more+"\n")
	ann.expect(t, "./kubeshore __complete up -n "+ns+","+more+" --include web."+ns+",", 0, "web."+ns+",db."+more+"\n")

	t.Run("its socket is removed", func(t *testing.T) {
		socket := filepath.Join(ann.home, ".local/state/kubeshore/kubeshore.sock")
		if err := os.Remove(socket); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it has another", func() error {
			_, err := os.Stat(socket)
			return err
		})
		ann.expect(t, "./kubeshore ps", 0, "web."+ns)
	})
	t.Run("another user", func(t *testing.T) {
		bob.expect(t, "./kubeshore ps", 1, "kubeshore isn't running")
		socket := filepath.Join(ann.home, ".local/state/kubeshore/kubeshore.sock")
		if _, err := os.Stat(socket); err != nil {
			t.Fatal(err)
		}
		for _, open := range []string{"", ".local/state/kubeshore", ".local/state/kubeshore/kubeshore.sock"} { // the peer is looked at too
			if open != "" {
				runCommand(t, "chmod", "-R", "a+rwX", filepath.Join(ann.home, open))
			}
			runCommand(t, "chmod", "a+x", ann.home)
			if status, out := bob.run(t, "curl -sS -m 5 --unix-socket "+socket+" http://x/v1/status"); status == 0 {
				t.Errorf("opened %q: bob gets %s", open, out)
			}
		}
	})
	t.Run("two users", func(t *testing.T) {
		bob.expect(t, "./kubeshore up -d --domain bobs.test -n "+ns, 0, "kubeshore runs in the background")
		mustGet(t, "http://web."+ns+".bobs.test")
		bob.expect(t, "./kubeshore down", 0, "has ended; everything is taken back\n")
		mustGet(t, "http://web."+ns)
	})
	ann.expect(t, "./kubeshore down", 0, fmt.Sprintf("kubeshore (process %d) has ended; everything is taken back\n", daemon))
	ann.checkCleanedUp(t, before)
	ann.expect(t, "./kubeshore logs", 1, "the log of the last one in the background is "+status.LogFile)
	if log, err := os.ReadFile(status.LogFile); err != nil || !strings.Contains(string(log), "everything is taken back") {
		t.Errorf("its log is %s, %v", log, err)
	}
	if strange := runCommand(t, "find", ann.home, "!", "-user", "ann"); strange != "" {
		t.Errorf("not the user's in the home: %s", strange)
	}
}

// Up and down, twenty times: nothing is left, whichever way it was started.
func TestRepeatedBackgroundRunsLeaveNothing(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := namespaceWithWeb(t)
	ann := newTestUser(t, "ann", "NOPASSWD: ALL")
	before := readHosts(t)
	for i := range 20 {
		line := []string{"./kubeshore up", "sudo ./kubeshore up"}[i%2]
		ann.expect(t, line+" -d -n "+ns, 0, "1 of 1 services can answer")
		mustGet(t, "http://web."+ns)
		ann.expect(t, "./kubeshore down", 0, "everything is taken back")
		ann.checkCleanedUp(t, before)
	}
	if files := runCommand(t, "find", ann.home, "-newer", filepath.Join(ann.home, "kubeshore"), "-type", "f"); strings.Count(files, "\n") > 4 {
		t.Errorf("there are files: %s", files)
	}
}

// Whenever it is told to end on its way to the background: it says that it runs if it does,
// and else leaves nothing.
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
		runs, _ := ann.run(t, "./kubeshore ps -o name")
		if (status == 0) != (runs == 0) {
			t.Errorf("%s, told to end after %v: status %d, and that of ps is %d: %s", line, delay, status, runs, out)
		}
		if runs == 0 {
			ann.expect(t, "./kubeshore down", 0, "everything is taken back")
		} else {
			ended++
		}
		ann.checkCleanedUp(t, before)
	}
	t.Logf("%d of 60 had ended", ended)
}

// A closed terminal ends what runs in it, and not what it has sent to the background.
func TestBackgroundOutlivesTerminal(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := namespaceWithWeb(t)
	ann := newTestUser(t, "ann", "NOPASSWD: ALL")
	before := readHosts(t)
	for _, line := range []string{"./kubeshore up", "sudo ./kubeshore up"} {
		term := ann.inTerminal(t, "bash -c '"+line+" -d -n "+ns+"; read'", 80)
		term.waitForLog(t, "kubeshore runs in the background")
		daemon := ann.processes(t).daemon
		if err := term.keys.Close(); err != nil {
			t.Fatal(err)
		}
		<-term.exited
		mustGet(t, "http://web."+ns)
		if err := syscall.Kill(daemon, syscall.SIGHUP); err != nil {
			t.Error(err)
		}
		mustGet(t, "http://web."+ns)
		ann.expect(t, "./kubeshore down", 0, "everything is taken back")
		ann.checkCleanedUp(t, before)
	}
}

// What the caller has open stays the caller's: its lock is free once it has gone.
func TestBackgroundHoldsNoInheritedFiles(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""))
	ann := newTestUser(t, "ann", "NOPASSWD: ALL")
	before := readHosts(t)
	for _, line := range []string{"./kubeshore up", "sudo ./kubeshore up"} {
		ann.expect(t, "bash -c '( flock 9; "+line+" -d --wait 0s --metrics 127.0.0.1:0 -n "+ns+" ) 9>lock && flock -n lock echo it is free'", 0, "it is free")
		ann.expect(t, "./kubeshore logs", 0, "metrics at http://127.0.0.1:")
		ann.expect(t, "./kubeshore down", 0, "everything is taken back")
		ann.checkCleanedUp(t, before)
	}
}
