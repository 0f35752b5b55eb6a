//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// However kubeshore is started, only the keeper and the guard run as root.
func TestOnlyKeeperAndGuardRunAsRoot(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := namespaceWithWeb(t)
	ann := newTestUser(t, "ann", "NOPASSWD: ALL")
	for _, line := range []string{"./kubeshore up", "sudo ./kubeshore up", "sudo -E ./kubeshore up"} {
		t.Run(line, func(t *testing.T) { testStart(t, ann, ns, line, "kubeshore-root") })
	}
	half := filepath.Join(ann.home, "kubeshore-root")
	if err := os.Rename(half, half+".moved"); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"./kubeshore up", "sudo ./kubeshore up"} {
		t.Run(line+" without kubeshore-root", func(t *testing.T) { testStart(t, ann, ns, line, "kubeshore") })
	}
	if err := os.Rename(half+".moved", half); err != nil {
		t.Fatal(err)
	}
	t.Run("--user", func(t *testing.T) { testStartWithUser(t, ann, ns) })
	t.Run("--detach --user", func(t *testing.T) {
		d := startDaemon(t, exec.Command(program, "up", "--detach", "--user", "ann", "--kubeconfig", filepath.Join(ann.home, ".kube/config"), "-n", ns))
		d.waitForLog(t, "1 of 1 services ready")
		<-d.exited
		if d.err != nil {
			t.Error(d.err)
		}
		ann.expect(t, "./kubeshore down", 0, "stopped and cleaned up")
		ann.waitForCleanup(t, d)
	})
	t.Run("--rootless", func(t *testing.T) { testStartRootless(t, ann, ns) })
	t.Run("--rootless without a hosts file", func(t *testing.T) {
		d := ann.startReady(t, "./kubeshore up --rootless -n "+ns)
		d.waitForLog(t, "no names, because ")
		d.waitForLog(t, "needs root")
	})
	t.Run("sudo password without a terminal", func(t *testing.T) {
		bob := newTestUser(t, "bob", "ALL")
		const want = "sudo can't ask for a password without a terminal"
		out, err := bob.command("./kubeshore up -n " + ns).CombinedOutput()
		const warning = "others than root can replace the program that runs as root: /home/bob belongs to user "
		first, out, _ := bytes.Cut(out, []byte("\n"))
		if !bytes.Contains(first, []byte(warning)) {
			t.Errorf("got first line %s, want %q", first, warning)
		}
		if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 1 || !errorMessage.Match(out) || !bytes.Contains(out, []byte(want)) {
			t.Errorf("got %v and output\n%s\nwant status 1 and an error message with %q", err, out, want)
		}
	})
}

// testStart checks the processes' users and the cleanup after a run that was
// started with line. Keeper and guard must be the given program.
func testStart(t *testing.T, u testUser, ns, line, program string) {
	d := u.startReady(t, line+" -n "+ns)
	h := u.processes(t)
	if h.daemon == 0 || h.keeper == 0 || h.guard == 0 {
		t.Errorf("got processes %+v, want a daemon, a keeper and a guard", h)
	}
	for _, pid := range []int{h.keeper, h.guard} {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil || filepath.Base(exe) != program {
			t.Errorf("process %d runs %s, %v; want %s", pid, exe, err, program)
		}
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil || strings.TrimSpace(string(comm)) != program {
			t.Errorf("process %d is named %q, %v; want %s", pid, comm, err, program)
		}
	}
	mustGet(t, "http://web."+ns)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.daemon))
	if err != nil || !strings.Contains(string(status), fmt.Sprintf("Uid:\t%d\t%[1]d\t%[1]d\t%[1]d\n", u.uid)) ||
		!regexp.MustCompile(`CapEff:\s0+\n`).Match(status) {
		t.Errorf("got daemon status\n%s\n%v; want user %d without capabilities", status, err, u.uid)
	}
	if err := syscall.Kill(h.daemon, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-d.exited
	if d.err != nil {
		t.Error(d.err)
	}
	t.Logf("cleaned up after %v", u.waitForCleanup(t, d))
	if others := runCommand(t, "find", u.home, "!", "-user", u.name); others != "" {
		t.Errorf("got files of other users in the home directory, want none: %s", others)
	}
}

func testStartWithUser(t *testing.T, u testUser, ns string) {
	d := up(t, "--user", u.name, "--kubeconfig", filepath.Join(u.home, ".kube/config"), "-n", ns)
	h := u.processes(t)
	if h.daemon == 0 || h.keeper == 0 {
		t.Errorf("got processes %+v, want a daemon and a keeper", h)
	}
	for fd, want := range []string{"/dev/null", "pipe:", "pipe:"} {
		if got, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", h.daemon, fd)); err != nil || !strings.HasPrefix(got, want) {
			t.Errorf("file descriptor %d: got %s, %v; want %s", fd, got, err, want)
		}
	}
	d.stop(t, syscall.SIGTERM) // the keeper forwards the signal
	d.waitForLog(t, `msg="cleaned up"`)
	u.waitForCleanup(t, d)
}

func testStartRootless(t *testing.T, u testUser, ns string) {
	hosts := u.writeFile(t, "hosts", "127.0.0.1 localhost\n", 0o644)
	d := u.startReady(t, "./kubeshore up --rootless -m 80:8080 --hosts-file hosts -n "+ns)
	d.waitForLog(t, "running without root: ")
	address := regexp.MustCompile(`web\S*  (127\.\S+:8080)`).FindStringSubmatch(d.log.String())
	if address == nil {
		t.Fatalf("got log\n%s\nwant the address of web", d.log.String())
	}
	mustGet(t, "http://"+address[1])
	if text, err := os.ReadFile(hosts); err != nil || !strings.Contains(string(text), "web."+ns) {
		t.Errorf("got hosts file %s, %v; want it to contain web.%s", text, err, ns)
	}
}

// Two users at the same time have different addresses. A name that one of them
// has is refused to the other until the first run ends.
func TestTwoUsersRunSideBySide(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""))
	ann, bob := newTestUser(t, "ann", "NOPASSWD: ALL"), newTestUser(t, "bob", "NOPASSWD: ALL")
	first := ann.startReady(t, "./kubeshore up -n "+ns)
	second := bob.startReady(t, "./kubeshore up --domain bobs.test -n "+ns)
	second.waitForLog(t, " web."+ns+", web: already mapped to ")
	firstAddress, err := resolve("web." + ns)
	if err != nil {
		t.Fatal(err)
	}
	secondAddress, err := resolve("web." + ns + ".bobs.test")
	if err != nil || secondAddress == firstAddress {
		t.Errorf("got addresses %s and %s, %v; want two different ones", firstAddress, secondAddress, err)
	}
	if err := syscall.Kill(-first.Process.Pid, syscall.SIGTERM); err != nil {
		if err := first.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the name belongs to the second run", func() error {
		got, err := resolve("web." + ns)
		if err == nil && got != secondAddress {
			err = fmt.Errorf("got address %s, want %s", got, secondAddress)
		}
		return err
	})
}

// Two users whose project files have the same address: it belongs to the first, in
// each mode of listening. The second user's other services work, and web gets the address
// when the first run's keeper is killed.
func TestAddressHasOneOwner(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	first, second := namespaceWithWeb(t), namespaceWithWeb(t)
	apply(t, strings.ReplaceAll(service(second, "other", 80, ""), "app: other", "app: web"))
	ann, bob := newTestUser(t, "ann", "NOPASSWD: ALL"), newTestUser(t, "bob", "NOPASSWD: ALL")
	const file = "namespaces: [%s]\nservices:\n  web.%[1]s: {address: 127.89.0.80}\n"
	ann.writeFile(t, "kubeshore.yaml", fmt.Sprintf(file, first), 0o600)
	bob.writeFile(t, "kubeshore.yaml", fmt.Sprintf(file, second), 0o600)
	const flags = " --cidr 127.89.0.0/16 --for everyone"
	for _, lines := range [][2]string{{"sudo ./kubeshore up --listen lookup", "./kubeshore up --listen lookup"}, {"./kubeshore up --listen each", "./kubeshore up"}} {
		t.Run(lines[0]+", "+lines[1], func(t *testing.T) {
			owner := ann.startReady(t, lines[0]+flags)
			late := bob.startReady(t, lines[1]+flags)
			late.waitForLog(t, "address 127.89.0.80 is used by kubeshore of user ann (pid ")
			eventually(t, "bob's other service has its name", resolves("other."+second))
			checkNow(t, unresolvable("web."+second), answered("http://web."+first), answered("http://other."+second))
			want := mustGet(t, "http://web."+first).Pod
			if got := mustGet(t, "http://127.89.0.80").Pod; got != want {
				t.Errorf("at the address: got an answer of pod %s, want ann's %s", got, want)
			}
			keeper, _ := strconv.Atoi(regexp.MustCompile(`user ann \(pid (\d+)\)`).FindStringSubmatch(late.log.String())[1])
			if err := syscall.Kill(keeper, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			<-owner.exited
			eventually(t, "bob has the address", answered("http://web."+second))
			if address, err := resolve("web." + second); address != "127.89.0.80" {
				t.Errorf("got address %q, %v; want bob's own", address, err)
			}
			bob.expect(t, "./kubeshore down", 0, "stopped and cleaned up")
			bob.waitForCleanup(t, owner)
		})
	}
}

// curl's exit statuses after a reset.
const (
	curlCouldntConnect = 7
	curlRecvError      = 56
)

// By default only the user of kubeshore and root can connect. Others are reset,
// and named once; with --for everyone, they can connect.
func TestOtherUsersAreRefused(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := namespaceWithWeb(t)
	ann, bob := newTestUser(t, "ann", "NOPASSWD: ALL"), newTestUser(t, "bob", "NOPASSWD: ALL")
	const get = "curl -sS --max-time 10 -o /dev/null -w %%{http_code} http://web.%s/"
	line := fmt.Sprintf(get, ns)
	for _, start := range []string{"./kubeshore up", "sudo ./kubeshore up", "./kubeshore up --listen each -m 80:8080"} {
		t.Run(start, func(t *testing.T) {
			line := line
			if strings.Contains(start, "8080") {
				line = strings.TrimSuffix(line, "/") + ":8080/"
			}
			d := ann.startReady(t, start+" -n "+ns)
			ann.expect(t, line, 0, "200")
			if out := runCommand(t, "bash", "-c", line); out != "200" {
				t.Errorf("as root: got %q, want 200", out)
			}
			for range 3 {
				// The reset comes during connect(2) or later.
				if status, out := bob.run(t, line); status != curlCouldntConnect && status != curlRecvError {
					t.Errorf("as bob: got status %d and output\n%s\nwant a reset", status, out)
				}
			}
			d.waitForLogOnce(t, 0, "refused connections of user bob; allow them with --for everyone")
			ann.expect(t, "./kubeshore ps -o json", 0, "\"refusedConnections\": 3")
			ann.expect(t, "./kubeshore down", 0, "stopped and cleaned up")
			ann.waitForCleanup(t, d)
		})
	}
	t.Run("--for everyone", func(t *testing.T) {
		ann.startReady(t, "./kubeshore up --for everyone -n "+ns)
		bob.expect(t, line, 0, "200")
	})
}
