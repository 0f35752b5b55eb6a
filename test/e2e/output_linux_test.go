//go:build e2e

package e2e

import (
	"os"
	"syscall"
	"testing"
	"time"
)

const soonTimeout = 5 * time.Second

// checkExitsSoon checks that the daemon exits within a few seconds.
func (d *daemon) checkExitsSoon(t *testing.T) {
	t.Helper()
	select {
	case <-d.exited:
	case <-time.After(soonTimeout):
		t.Errorf("daemon did not exit within %v", soonTimeout)
	}
}

// A stopped terminal, or a pipe that nobody reads, blocks nothing: services are
// added and removed, and the run can be ended.
func TestBlockedOutputDoesNotBlockRun(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := namespaceWithWeb(t)
	bob := newTestUser(t, "bob", "NOPASSWD: ALL")
	terminate := func(t *testing.T) {
		t.Helper()
		if err := syscall.Kill(bob.processes(t).daemon, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	down := func(t *testing.T) {
		t.Helper()
		bob.expect(t, "./kubeshore down --timeout 5s", 0, "stopped and cleaned up")
	}
	for _, c := range []struct {
		name, line string
		end        func(*testing.T)
	}{
		{"SIGTERM", "./kubeshore up", terminate},
		{"down", "./kubeshore up", down},
		{"SIGTERM under sudo", "sudo ./kubeshore up", terminate},
		{"down under sudo", "sudo ./kubeshore up", down},
	} {
		t.Run(c.name, func(t *testing.T) {
			term := bob.inTerminal(t, c.line+" -n "+ns, 80)
			testStoppedTerminal(t, term, ns)
			c.end(t)
			term.checkExitsSoon(t)
			bob.waitForCleanup(t, term.daemon)
		})
	}
	t.Run("detaching", func(t *testing.T) {
		apply(t, service(ns, "none", 80, ""))
		term := bob.inTerminal(t, "./kubeshore up -d --wait 1m -n "+ns, 80)
		term.waitForLog(t, "1/2 services ready · waiting for none."+ns)
		term.press(t, ctrlS)
		down(t)
		term.checkExitsSoon(t)
		bob.waitForCleanup(t, term.daemon)
	})
	t.Run("closed pipe", func(t *testing.T) {
		for _, line := range []string{"./kubeshore up -n " + ns, "sudo ./kubeshore up -n " + ns} {
			testClosedPipe(t, bob, ns, line)
		}
	})
	t.Run("full pipe", func(t *testing.T) { testFullPipe(t, bob, ns) })
}

const ctrlS = "\x13"

// testStoppedTerminal stops the output of a terminal with a running kubeshore
// and checks that services are still followed.
func testStoppedTerminal(t *testing.T, term *terminal, ns string) {
	t.Helper()
	term.waitForLog(t, "1/1 services ready")
	term.press(t, ctrlS)
	apply(t, service(ns, "more", 80, ""))
	eventually(t, "the added service resolves", resolves("more."+ns))
	kubectl(t, "", "-n", ns, "delete", "service", "more")
	eventually(t, "the deleted service doesn't resolve", unresolvable("more."+ns))
}

// testClosedPipe checks that a run exits when the reader of its stderr has
// closed the pipe, like head does.
func testClosedPipe(t *testing.T, u testUser, ns, line string) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	d := u.startWithStderr(t, line, writer)
	_ = writer.Close()
	if _, err := reader.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_ = reader.Close()
	apply(t, service(ns, "news", 80, "")) // makes kubeshore write to the pipe
	d.checkExitsSoon(t)
	kubectl(t, "", "-n", ns, "delete", "service", "news")
	u.waitForCleanup(t, d)
}

// testFullPipe checks that a run whose stderr is a full pipe can be ended.
func testFullPipe(t *testing.T, u testUser, ns string) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer writer.Close()
	if err := writer.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	_, _ = writer.Write(make([]byte, 1<<20)) // more than the pipe holds
	d := u.startWithStderr(t, "./kubeshore up -n "+ns, writer)
	eventually(t, "web resolves", resolves("web."+ns))
	if err := syscall.Kill(u.processes(t).daemon, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	d.checkExitsSoon(t)
	u.waitForCleanup(t, d)
}

// startWithStderr runs a command line as the user with stderr going to pipe.
func (u testUser) startWithStderr(t *testing.T, line string, pipe *os.File) *daemon {
	t.Helper()
	cmd := u.command(line)
	cmd.Stderr = pipe
	d := &daemon{Cmd: cmd, exited: make(chan struct{}), hostsBefore: []byte(readHosts(t))}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		d.err = cmd.Wait()
		close(d.exited)
	}()
	return d
}
