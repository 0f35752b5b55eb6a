//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// processIDs are the processes of a kubeshore that runs for a person.
type processIDs struct{ daemon, keeper, guard int }

// inOurMounts tells whether a process is in the test's own mount namespace: others on this machine
// may run kubeshore too.
func inOurMounts(pid string) bool {
	own, err := os.Readlink("/proc/self/ns/mnt")
	theirs, _ := os.Readlink("/proc/" + pid + "/ns/mnt") // none if it has ended
	return err == nil && theirs == own
}

// processes finds the processes.
func (p testUser) processes(t *testing.T) (h processIDs) {
	t.Helper()
	out := runCommand(t, "ps", "-eo", "pid=,ruid=,args=")
	line := regexp.MustCompile(`^\s*(\d+)\s+(\d+)\s+(\S*kubeshore) (\w+)`)
	for text := range strings.Lines(out) {
		m := line.FindStringSubmatch(text)
		if m == nil {
			continue
		}
		pid, _ := strconv.Atoi(m[1])
		if !inOurMounts(m[1]) {
			continue
		}
		switch root := m[2] == "0"; {
		case m[4] == "up" && !root && h.daemon == 0:
			h.daemon = pid
		case m[4] == "guard" && root:
			h.guard = pid
		case (m[4] == "keeper" || m[4] == "up") && root && h.keeper == 0: // a later one is about to become another program
			h.keeper = pid
		}
	}
	return h
}

// killAll kills all processes, stopped first, so that none of them sees another's end.
func (p testUser) killAll(t *testing.T) {
	t.Helper()
	h := p.processes(t)
	if h.daemon == 0 || h.keeper == 0 || h.guard == 0 {
		t.Fatalf("there are %+v", h)
	}
	for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		for _, pid := range []int{h.guard, h.keeper, h.daemon} {
			if err := syscall.Kill(pid, signal); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "no process is left", func() error {
		if h := p.processes(t); h != (processIDs{}) {
			return fmt.Errorf("there are %+v", h)
		}
		return nil
	})
}

// leftovers finds files of the person's runs, beside the hosts file and in the home.
// Another user of the machine may have a lock of their own.
func (p testUser) leftovers(inHome ...string) error {
	left, err := filepath.Glob("/etc/.hosts*")
	left = slices.DeleteFunc(left, func(path string) bool {
		_, owner, locks := strings.Cut(path, "kubeshore-lock-")
		return locks && owner != strconv.Itoa(p.uid)
	})
	for _, pattern := range inHome {
		found, _ := filepath.Glob(filepath.Join(p.home, pattern))
		left = append(left, found...)
	}
	if len(left) > 0 {
		err = fmt.Errorf("left behind: %v", left)
	}
	return err
}

// waitForCleanup waits until no process is left and the hosts file is as it was.
func (p testUser) waitForCleanup(t *testing.T, d *daemon) time.Duration {
	t.Helper()
	return eventually(t, "nothing is left", func() error {
		if err := d.hostsRestored(); err != nil {
			return err
		}
		if h := p.processes(t); h != (processIDs{}) {
			return fmt.Errorf("there are %+v", h)
		}
		return p.leftovers("kubeshore-[0-9]*")
	})
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
