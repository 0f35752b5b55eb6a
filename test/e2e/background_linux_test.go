//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// run runs a command line as the person, and returns its status and what it says.
func (p testUser) run(t *testing.T, line string) (status int, out string) {
	t.Helper()
	said, err := p.command(line).CombinedOutput()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return exit.ExitCode(), string(said)
	} else if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return 0, string(said)
}

// expect runs a command line that is to end with a status and to say a text.
func (p testUser) expect(t *testing.T, line string, status int, text string) string {
	t.Helper()
	got, out := p.run(t, line)
	if got != status || !strings.Contains(out, text) {
		t.Errorf("%s: status %d, want %d and %q: %s", line, got, status, text, out)
	}
	return out
}

// readHosts returns what the hosts file has.
func readHosts(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(hostsFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// checkCleanedUp checks that nothing of a person's kubeshore is left.
func (p testUser) checkCleanedUp(t *testing.T, before string) {
	t.Helper()
	eventually(t, "nothing is left", func() error {
		if h := p.processes(t); h != (processIDs{}) {
			return fmt.Errorf("there are %+v", h)
		}
		after, err := os.ReadFile(hostsFile)
		if err == nil && string(after) != before {
			err = fmt.Errorf("the hosts file was\n%s\nand is\n%s", before, after)
		}
		if err == nil {
			err = p.leftovers("kubeshore-[0-9]*", ".local/state/kubeshore/*.sock")
		}
		return err
	})
}

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

// What ends before it is ready says why, and leaves nothing.
func TestFailedBackgroundRunsLeaveNothing(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""))
	ann := newTestUser(t, "ann", "NOPASSWD: ALL")
	before := readHosts(t)
	ann.expect(t, "./kubeshore up -d --kubeconfig nothing", 1, "nothing")
	ann.expect(t, "./kubeshore up -d --hosts-file /nothing", 1, "/nothing: no such file or directory")
	ann.expect(t, "sudo ./kubeshore up -d --hosts-file /nothing", 1, "/nothing: no such file or directory")
	log := filepath.Join(ann.home, ".local/state/kubeshore/kubeshore.log")
	if said, err := os.ReadFile(log); err != nil || !regexp.MustCompile(`time="\d{4}-\d\d-\d\d \d\d:\d\d:\d\d" level=error msg=".*/nothing: no such file or directory`).Match(said) {
		t.Errorf("its log is %s, %v", said, err)
	}
	ann.expect(t, "./kubeshore up -d --metrics 192.0.2.1:1 -n "+ns, 1, "--metrics 192.0.2.1:1: ")
	ann.expect(t, "./kubeshore up -d --wait 300ms -n "+ns, 0, "not all of it is ready after 300ms (--wait): web."+ns+": it has no pods")

	ann.expect(t, "./kubeshore down", 0, "everything is taken back")
	ann.checkCleanedUp(t, before)

	// Told to end while it waits, it does.
	for _, line := range []string{"./kubeshore up", "sudo ./kubeshore up"} {
		d := startDaemon(t, ann.command(line+" -d --wait 1m -n "+ns))
		d.waitForLog(t, "ready")
		first := ann.processes(t).keeper // under sudo the one that sudo has started
		if !strings.HasPrefix(line, "sudo") {
			first = ann.processes(t).daemon
		}
		if err := syscall.Kill(first, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		<-d.exited
		if d.err == nil {
			t.Errorf("%s: it ends as if it ran: %s", line, d.log.String())
		}
		ann.checkCleanedUp(t, before)
	}

	ann.expect(t, "./kubeshore up -d --wait 0s -n "+ns, 0, "kubeshore runs in the background")
	ann.killAll(t) // a killed run leaves its socket
	ann.expect(t, "./kubeshore ps", 1, "kubeshore isn't running")
	ann.expect(t, "./kubeshore up -d --wait 0s -n "+ns, 0, "kubeshore runs in the background")
	ann.expect(t, "./kubeshore down", 0, "everything is taken back")
	ann.checkCleanedUp(t, before)

	t.Run("one that hangs", func(t *testing.T) { // its log is its own
		ann.expect(t, "./kubeshore up -d --wait 0s -n "+ns, 0, "kubeshore runs in the background")
		daemon := ann.processes(t).daemon
		if err := syscall.Kill(daemon, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		ann.expect(t, "./kubeshore up -d --wait 0s -n "+ns, 1, "kubeshore runs already")
		if said, err := os.ReadFile(log); err != nil || strings.Contains(string(said), "runs already") {
			t.Errorf("its log is %s, %v", said, err)
		}
		if err := syscall.Kill(daemon, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		ann.expect(t, "./kubeshore down", 0, "everything is taken back")
		ann.checkCleanedUp(t, before)
	})

	t.Run("full disk", func(t *testing.T) {
		state := filepath.Join(ann.home, ".local/state/kubeshore")
		if err := syscall.Mount("tmpfs", state, "tmpfs", 0, "size=16k,mode=0700,uid="+strconv.Itoa(ann.uid)); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = syscall.Unmount(state, syscall.MNT_DETACH) }()
		filler, err := os.Create(filepath.Join(state, "filler"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(filler, io.LimitReader(zeroes{}, 1<<20)); !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		_ = filler.Close()
		ann.expect(t, "./kubeshore up -d --wait 0s -n "+ns, 0, "kubeshore runs in the background")
		eventually(t, "it shows the service", func() error {
			if _, out := ann.run(t, "./kubeshore ps"); !strings.Contains(out, "web."+ns) {
				return errors.New(out)
			}
			return nil
		})
		ann.expect(t, "./kubeshore logs", 0, "ready")
		ann.expect(t, "./kubeshore down", 0, "everything is taken back")
	})
	ann.checkCleanedUp(t, before)
}

// zeroes is an endless file.
type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
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

// Metrics say what was done, on the socket and by TCP.
func TestMetricsCountConnections(t *testing.T) {
	ns := namespaceWithWeb(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	up(t, "-n", ns, "--metrics", address)
	for range 3 {
		mustGet(t, "http://web."+ns)
	}
	eventually(t, "the metrics have it", func() error {
		client := http.Client{Timeout: 5 * time.Second}
		resp, err := client.Get("http://" + address + "/metrics")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		for _, want := range []string{
			`service="web"} 3`, `kubeshore_services{state="ready"} 1`, "kubeshore_first_byte_seconds_count 3", `kubeshore_dial_seconds_count{result="done"} 3`,
			"kubeshore_hosts_writes_total 1", `direction="down",`, `ready="true"`, "kubeshore_upstream_connections ",
		} {
			if !strings.Contains(string(text), want) {
				return fmt.Errorf("%q is not in\n%s", want, text)
			}
		}
		return nil
	})
}
