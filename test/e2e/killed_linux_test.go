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

// churnServices has Services of a namespace come and go until the test is over.
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
			if out, err := cmd.CombinedOutput(); ctx.Err() != nil {
				ended <- nil
				return
			} else if err != nil {
				ended <- fmt.Errorf("%w: %s", err, out)
				return
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("churn: %v", err)
		}
	})
}

// Whichever of the processes is killed, and when, while names come and go: the machine
// is as it was two seconds later.
func TestAnyKilledProcessIsCleanedUp(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""))
	ann := newTestUser(t, "ann", "NOPASSWD: ALL")
	churnServices(t, ns)
	var worst time.Duration
	for i := range 21 {
		line := []string{"./kubeshore up", "sudo ./kubeshore up"}[i%2]
		d := ann.startReady(t, line+" -n "+ns)
		h := ann.processes(t)
		victim := []int{h.daemon, h.keeper, h.guard}[i%3]
		pause(t, rand.N(500*time.Millisecond))
		at, err := resolve("web." + ns)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
			t.Fatalf("%s: %+v: %v", line, h, err)
		}
		took := ann.waitForCleanup(t, d)
		worst = max(worst, took)
		if took > 2*time.Second {
			t.Errorf("%s, %s killed: it took %v", line, []string{"daemon", "keeper", "guard"}[i%3], took)
		}
		if _, err := net.Dial("tcp", at+":80"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("the port says %v", err)
		}
		<-d.exited
		if d.err == nil {
			t.Errorf("%s: it ends as if nothing had happened: %s", line, d.log.String())
		}
		if i%3 == 1 && i%2 == 0 && !strings.Contains(d.log.String(), "keeper (kubeshore's root helper) exited") {
			t.Errorf("it says %s", d.log.String())
		}
	}
	t.Logf("nothing was left after %v at most", worst)

	ann.killInBackground(t, ns)

	d := ann.startReady(t, "./kubeshore up -n "+ns)
	ann.killAll(t)
	<-d.exited
	eventually(t, "clean takes the names away", func() error { // a dead process may have its lock for a moment more
		if said := runCommand(t, program, "clean"); !strings.Contains(said, fmt.Sprintf("took away the names of user %d", ann.uid)) {
			return fmt.Errorf("it says %s", said)
		}
		return nil
	})
	ann.waitForCleanup(t, d)
	if said := runCommand(t, program, "clean"); said != "nothing to clean" {
		t.Errorf("clean says %s", said)
	}

	// Both of root's at once: the daemon can't put the machine right, and says who can.
	d = ann.startReady(t, "./kubeshore up -n "+ns)
	h := ann.processes(t)
	for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		for _, pid := range []int{h.guard, h.keeper} {
			if err := syscall.Kill(pid, signal); err != nil {
				t.Fatal(err)
			}
		}
	}
	<-d.exited
	if !strings.Contains(d.log.String(), "its names are left in /etc/hosts") {
		t.Errorf("it says %s", d.log.String())
	}
	ann.expect(t, "sudo ./kubeshore clean", 0, "took away the names of user")
	ann.waitForCleanup(t, d)
}

// killInBackground kills one process of what goes to the background, before it is ready:
// the daemon, the keeper or the guard, as soon as it is there or a moment later.
func (p testUser) killInBackground(t *testing.T, ns string) {
	t.Helper()
	victims := []struct {
		name  string
		match *regexp.Regexp
	}{
		{"daemon", regexp.MustCompile(`^\s*(\d+)\s+\d+\s+\S*kubeshore up .* KUBESHORE_DETACHED=`)},
		{"keeper", regexp.MustCompile(`^\s*(\d+)\s+0\s+\S*kubeshore keeper `)},
		{"guard", regexp.MustCompile(`^\s*(\d+)\s+0\s+\S*kubeshore guard `)},
	}
	for i := range 12 {
		line, victim := []string{"./kubeshore up", "sudo ./kubeshore up"}[i%2], victims[i%3]
		d := startDaemon(t, p.command(line+" -d --wait 1m -n "+ns))
		var killed int
		eventually(t, "the "+victim.name+" is there", func() error {
			for text := range strings.Lines(runCommand(t, "ps", "-eo", "pid=,ruid=,args=", "e")) {
				if m := victim.match.FindStringSubmatch(text); m != nil && inOurMounts(m[1]) && !strings.Contains(text, " --socket ") { // that one has yet to start the keeper
					killed, _ = strconv.Atoi(m[1])
					return nil
				}
			}
			select {
			case <-d.exited:
				t.Fatalf("%s -d: it ended: %v: %s", line, d.err, d.log.String())
			default:
			}
			return errors.New("it isn't")
		})
		if i >= 6 {
			pause(t, rand.N(300*time.Millisecond))
		}
		if err := syscall.Kill(killed, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-d.exited
		took := p.waitForCleanup(t, d)
		if d.err == nil || took > 2*time.Second {
			t.Errorf("%s -d, %s killed: %v after %v: %s", line, victim.name, d.err, took, d.log.String())
		}
	}
}
