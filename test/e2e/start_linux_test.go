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
	"strings"
	"syscall"
	"testing"
)

// Every way to start: what needs root runs as root, and the rest as the user.
func TestOnlyKeeperAndGuardRunAsRoot(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := namespaceWithWeb(t)
	ann := newTestUser(t, "ann", "NOPASSWD: ALL")
	for _, line := range []string{"./kubeshore up", "sudo ./kubeshore up", "sudo -E ./kubeshore up"} {
		t.Run(line, func(t *testing.T) {
			d := ann.startReady(t, line+" -n "+ns)
			h := ann.processes(t)
			if h.daemon == 0 || h.keeper == 0 || h.guard == 0 {
				t.Errorf("there are %+v", h)
			}
			mustGet(t, "http://web."+ns)
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.daemon))
			if err != nil || !strings.Contains(string(status), fmt.Sprintf("Uid:\t%d\t%[1]d\t%[1]d\t%[1]d\n", ann.uid)) ||
				!regexp.MustCompile(`CapEff:\s0+\n`).Match(status) {
				t.Errorf("the daemon's status is %s, %v", status, err)
			}
			if err := syscall.Kill(h.daemon, syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			<-d.exited
			if d.err != nil {
				t.Error(d.err)
			}
			t.Logf("nothing is left after %v", ann.waitForCleanup(t, d))
			if strange := runCommand(t, "find", ann.home, "!", "-user", "ann"); strange != "" {
				t.Errorf("not the user's in the home: %s", strange)
			}
		})
	}
	t.Run("--user", func(t *testing.T) {
		d := up(t, "--user", "ann", "--kubeconfig", filepath.Join(ann.home, ".kube/config"), "-n", ns)
		h := ann.processes(t)
		if h.daemon == 0 || h.keeper == 0 {
			t.Errorf("there are %+v", h)
		}
		for fd, want := range []string{"/dev/null", "pipe:", "pipe:"} {
			if is, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", h.daemon, fd)); err != nil || !strings.HasPrefix(is, want) {
				t.Errorf("descriptor %d is %s, %v", fd, is, err)
			}
		}
		d.stop(t, syscall.SIGTERM) // the keeper passes it on
		d.waitForLog(t, "everything is taken back")
		ann.waitForCleanup(t, d)
	})
	t.Run("--detach --user", func(t *testing.T) {
		d := startDaemon(t, exec.Command(program, "up", "--detach", "--user", "ann", "--kubeconfig", filepath.Join(ann.home, ".kube/config"), "-n", ns))
		d.waitForLog(t, "1 of 1 services can answer")
		<-d.exited
		if d.err != nil {
			t.Error(d.err)
		}
		ann.expect(t, "./kubeshore down", 0, "everything is taken back")
		ann.waitForCleanup(t, d)
	})
	t.Run("--rootless", func(t *testing.T) {
		own := ann.writeFile(t, "hosts", "127.0.0.1 localhost\n", 0o644)
		d := ann.startReady(t, "./kubeshore up --rootless -m 80:8080 --hosts-file hosts -n "+ns)
		d.waitForLog(t, "without root: ")
		address := regexp.MustCompile(`web\S*  (127\.\S+:8080)`).FindStringSubmatch(d.log.String())
		if address == nil {
			t.Fatalf("it says %s", d.log.String())
		}
		mustGet(t, "http://"+address[1])
		if text, err := os.ReadFile(own); err != nil || !strings.Contains(string(text), "web."+ns) {
			t.Errorf("its hosts file has %s, %v", text, err)
		}
	})
	t.Run("--rootless without a hosts file", func(t *testing.T) {
		d := ann.startReady(t, "./kubeshore up --rootless -n "+ns)
		d.waitForLog(t, "no names are written")
		d.waitForLog(t, "needs root")
	})
	t.Run("a password without a terminal", func(t *testing.T) {
		bob := newTestUser(t, "bob", "ALL")
		out, err := bob.command("./kubeshore up -n " + ns).CombinedOutput()
		if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 1 || bytes.Count(out, []byte("\n")) != 1 ||
			!bytes.Contains(out, []byte("sudo can't ask for a password without a terminal")) {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// Two users at once have names and addresses of their own, and what one has the other
// is refused.
func TestTwoUsersRunSideBySide(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""))
	ann, bob := newTestUser(t, "ann", "NOPASSWD: ALL"), newTestUser(t, "bob", "NOPASSWD: ALL")
	before := ann.startReady(t, "./kubeshore up -n "+ns)
	second := bob.startReady(t, "./kubeshore up --domain bobs.test -n "+ns)
	second.waitForLog(t, "the hosts file has the name web."+ns+" already")
	first, err := resolve("web." + ns)
	if err != nil {
		t.Fatal(err)
	}
	other, err := resolve("web." + ns + ".bobs.test")
	if err != nil || other == first {
		t.Errorf("at %s and at %s, %v", first, other, err)
	}
	if err := syscall.Kill(-before.Process.Pid, syscall.SIGTERM); err != nil {
		if err := before.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the other one takes the name up", func() error {
		at, err := resolve("web." + ns)
		if err == nil && at != other {
			err = fmt.Errorf("it is at %s, not at %s", at, other)
		}
		return err
	})
}
