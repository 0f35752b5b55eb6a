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

// processIDs holds the process IDs of a running kubeshore; 0 if there is none.
type processIDs struct{ daemon, keeper, guard int }

// inOurMounts reports whether a process is in the test's mount namespace.
// Other processes of kubeshore on this machine don't belong to the test.
func inOurMounts(pid string) bool {
	want, err := os.Readlink("/proc/self/ns/mnt")
	got, _ := os.Readlink("/proc/" + pid + "/ns/mnt") // empty if the process has exited
	return err == nil && got == want
}

// processes returns the user's running kubeshore processes.
func (u testUser) processes(t *testing.T) (h processIDs) {
	t.Helper()
	out := runCommand(t, "ps", "-eo", "pid=,ruid=,args=")
	pattern := regexp.MustCompile(`^\s*(\d+)\s+(\d+)\s+(\S*kubeshore(?:-root)?) ([\w-]+)`)
	for text := range strings.Lines(out) {
		m := pattern.FindStringSubmatch(text)
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
		case (m[4] == "keeper" || m[4] == "run-as-user" || m[4] == "up") && root && h.keeper == 0: // a later match is a process before its exec
			h.keeper = pid
		}
	}
	return h
}

// killAll kills all processes. It stops them first, so that none of them
// notices the end of another.
func (u testUser) killAll(t *testing.T) {
	t.Helper()
	h := u.processes(t)
	if h.daemon == 0 || h.keeper == 0 || h.guard == 0 {
		t.Fatalf("got processes %+v, want a daemon, a keeper and a guard", h)
	}
	for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		for _, pid := range []int{h.guard, h.keeper, h.daemon} {
			if err := syscall.Kill(pid, signal); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "all processes have exited", func() error {
		if h := u.processes(t); h != (processIDs{}) {
			return fmt.Errorf("got processes %+v, want none", h)
		}
		return nil
	})
}

// leftovers returns an error if the user's runs left files next to the hosts
// file or, matching the patterns, in the home directory. It ignores lock files
// of other users.
func (u testUser) leftovers(homePatterns ...string) error {
	left, err := filepath.Glob("/etc/.hosts*")
	left = slices.DeleteFunc(left, func(path string) bool {
		_, owner, locks := strings.Cut(path, "kubeshore-lock-")
		return locks && owner != strconv.Itoa(u.uid)
	})
	for _, pattern := range homePatterns {
		found, _ := filepath.Glob(filepath.Join(u.home, pattern))
		left = append(left, found...)
	}
	if len(left) > 0 {
		err = fmt.Errorf("got leftover files %v, want none", left)
	}
	return err
}

// waitForCleanup waits until all processes have exited and the hosts file is
// restored, and returns how long that took.
func (u testUser) waitForCleanup(t *testing.T, d *daemon) time.Duration {
	t.Helper()
	return eventually(t, "everything is cleaned up", func() error {
		if err := d.hostsRestored(); err != nil {
			return err
		}
		if h := u.processes(t); h != (processIDs{}) {
			return fmt.Errorf("got processes %+v, want none", h)
		}
		return u.leftovers("kubeshore-[0-9]*")
	})
}

// readHosts returns the content of the hosts file.
func readHosts(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(hostsFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// checkCleanedUp waits until the user's kubeshore has left nothing and the
// hosts file is as it was before.
func (u testUser) checkCleanedUp(t *testing.T, before string) {
	t.Helper()
	eventually(t, "everything is cleaned up", func() error {
		if h := u.processes(t); h != (processIDs{}) {
			return fmt.Errorf("got processes %+v, want none", h)
		}
		after, err := os.ReadFile(hostsFile)
		if err != nil {
			return err
		}
		if string(after) != before {
			return fmt.Errorf("hosts file: got\n%s\nwant\n%s", after, before)
		}
		return u.leftovers("kubeshore-[0-9]*", ".local/state/kubeshore/*.sock")
	})
}
