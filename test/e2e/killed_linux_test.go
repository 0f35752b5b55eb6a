//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// churnServices adds and removes Services of a namespace until the test ends.
func churnServices(t *testing.T, ns string) {
	t.Helper()
	const services = 20
	manifests := make([]string, services)
	for i := range manifests {
		manifests[i] = service(ns, fmt.Sprintf("churn-%d", i), 80, "")
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			cmd := exec.CommandContext(ctx, kubectlProgram, []string{"apply", "delete"}[i%2], "-f", "-")
			cmd.Stdin = strings.NewReader(strings.Join(manifests, "\n---\n"))
			out, err := cmd.CombinedOutput()
			if ctx.Err() != nil {
				ended <- nil
				return
			}
			if err != nil {
				ended <- fmt.Errorf("%w: %s", err, out)
				return
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("add and remove services: %v", err)
		}
	})
}

// Any process of a run is killed at any time while names change. The machine is
// clean two seconds later.
func TestAnyKilledProcessIsCleanedUp(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""))
	ann := newTestUser(t, "ann", "NOPASSWD: ALL")
	churnServices(t, ns)
	var slowest time.Duration
	for i := range 21 {
		slowest = max(slowest, testKilledProcess(t, ann, ns, i))
	}
	t.Logf("cleaned up after %v at most", slowest)
	ann.killInBackground(t, ns)
	testClean(t, ann, ns)
	testKilledKeeperAndGuard(t, ann, ns)
}

// testKilledProcess kills one process of a run and returns how long the cleanup
// took. i chooses how the run is started and which process is killed.
func testKilledProcess(t *testing.T, u testUser, ns string, i int) time.Duration {
	t.Helper()
	line := []string{"./kubeshore up", "sudo ./kubeshore up"}[i%2]
	d := u.startReady(t, line+" -n "+ns)
	h := u.processes(t)
	victim, pid := []string{"daemon", "keeper", "guard"}[i%3], []int{h.daemon, h.keeper, h.guard}[i%3]
	pause(t, rand.N(500*time.Millisecond))
	address, err := resolve("web." + ns)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("%s: %+v: %v", line, h, err)
	}
	took := u.waitForCleanup(t, d)
	if took > 2*time.Second {
		t.Errorf("%s, %s killed: cleaned up after %v, want 2s at most", line, victim, took)
	}
	if _, err := net.Dial("tcp", address+":80"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connect to the port after the cleanup: got %v, want %v", err, syscall.ECONNREFUSED)
	}
	<-d.exited
	if d.err == nil {
		t.Errorf("%s, %s killed: got status 0, want an error; log:\n%s", line, victim, d.log.String())
	}
	const want = "the keeper (kubeshore's root helper) exited unexpectedly"
	if victim == "keeper" && i%2 == 0 && !strings.Contains(d.log.String(), want) {
		t.Errorf("%s, keeper killed: got log\n%s\nwant it to contain %q", line, d.log.String(), want)
	}
	return took
}

// testClean runs clean after all processes of a run were killed.
func testClean(t *testing.T, u testUser, ns string) {
	t.Helper()
	d := u.startReady(t, "./kubeshore up -n "+ns)
	u.killAll(t)
	<-d.exited
	u.expect(t, "./kubeshore clean", 1, ": permission denied\nhint: run sudo kubeshore clean\n")
	var output string
	eventually(t, "clean removes the names and claims", func() error { // a killed process may keep its lock for a moment
		output += runCommand(t, program, "clean")
		for _, want := range []string{fmt.Sprintf("removed the entries of user %d", u.uid), "removed /run/kubeshore-claims/claims-"} {
			if !strings.Contains(output, want) {
				return fmt.Errorf("got %q, want %q", output, want)
			}
		}
		return nil
	})
	u.waitForCleanup(t, d)
	const want = "nothing to clean up"
	if output := runCommand(t, program, "clean"); output != want {
		t.Errorf("second clean: got %q, want %q", output, want)
	}
}

// testKilledKeeperAndGuard kills both processes that run as root. The daemon
// can't clean up then, and reports how to do it.
func testKilledKeeperAndGuard(t *testing.T, u testUser, ns string) {
	t.Helper()
	d := u.startReady(t, "./kubeshore up -n "+ns)
	h := u.processes(t)
	for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		for _, pid := range []int{h.guard, h.keeper} {
			if err := syscall.Kill(pid, signal); err != nil {
				t.Fatal(err)
			}
		}
	}
	<-d.exited
	const want = "its names are still in /etc/hosts\nhint: run sudo kubeshore clean\n"
	if !strings.Contains(d.log.String(), want) {
		t.Errorf("got log\n%s\nwant it to contain %q", d.log.String(), want)
	}
	u.expect(t, "sudo ./kubeshore clean", 0, "removed the entries of user")
	u.waitForCleanup(t, d)
}

// killInBackground kills the daemon, the keeper or the guard of a run that is
// about to detach, before it is ready: as soon as the process exists, or a
// moment later.
func (u testUser) killInBackground(t *testing.T, ns string) {
	t.Helper()
	victims := []struct {
		name  string
		match *regexp.Regexp
	}{
		{"daemon", regexp.MustCompile(`^\s*(\d+)\s+\d+\s+\S*kubeshore up .* KUBESHORE_DETACHED=`)},
		{"keeper", regexp.MustCompile(`^\s*(\d+)\s+0\s+\S*kubeshore-root keeper `)},
		{"guard", regexp.MustCompile(`^\s*(\d+)\s+0\s+\S*kubeshore-root guard `)},
	}
	for i := range 12 {
		line, victim := []string{"./kubeshore up", "sudo ./kubeshore up"}[i%2], victims[i%3]
		d := startDaemon(t, u.command(line+" -d --wait 1m -n "+ns))
		var killed int
		eventually(t, "the "+victim.name+" is running", func() error {
			for text := range strings.Lines(runCommand(t, "ps", "-eo", "pid=,ruid=,args=", "e")) {
				if m := victim.match.FindStringSubmatch(text); m != nil && inOurMounts(m[1]) {
					killed, _ = strconv.Atoi(m[1])
					return nil
				}
			}
			select {
			case <-d.exited:
				t.Fatalf("%s -d exited: %v: %s", line, d.err, d.log.String())
			default:
			}
			return errors.New("not running")
		})
		if i >= 6 {
			pause(t, rand.N(300*time.Millisecond))
		}
		if err := syscall.Kill(killed, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-d.exited
		took := u.waitForCleanup(t, d)
		if d.err == nil || took > 2*time.Second {
			t.Errorf("%s -d, %s killed: got %v, cleaned up after %v; want an error and 2s at most; output:\n%s", line, victim.name, d.err, took, d.log.String())
		}
	}
}
