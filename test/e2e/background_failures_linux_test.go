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
