//go:build e2e

package e2e

import (
	"os"
	"syscall"
	"testing"
	"time"
)

// checkExitsSoon checks that it ends within a few seconds.
func (d *daemon) checkExitsSoon(t *testing.T) {
	t.Helper()
	select {
	case <-d.exited:
	case <-time.After(5 * time.Second):
		t.Error("it doesn't end soon")
	}
}

// A terminal that takes no more, or a pipe that nobody reads, holds nothing up: services
// come and go, and the end is the end.
func TestBlockedOutputDoesNotBlockRun(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := namespaceWithWeb(t)
	bob := newTestUser(t, "bob", "NOPASSWD: ALL")
	const ctrlS = "\x13"
	terminate := func(t *testing.T) {
		t.Helper()
		if err := syscall.Kill(bob.processes(t).daemon, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	down := func(t *testing.T) {
		t.Helper()
		bob.expect(t, "./kubeshore down --timeout 5s", 0, "everything is taken back")
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
			term.waitForLog(t, "1/1 services ready")
			term.press(t, ctrlS)
			apply(t, service(ns, "more", 80, ""))
			eventually(t, "the further service has its name", func() error {
				_, err := resolve("more." + ns)
				return err
			})
			kubectl(t, "", "-n", ns, "delete", "service", "more")
			eventually(t, "it is gone", unresolvable("more."+ns))
			c.end(t)
			term.checkExitsSoon(t)
			bob.waitForCleanup(t, term.daemon)
		})
	}
	t.Run("to the background", func(t *testing.T) {
		apply(t, service(ns, "none", 80, ""))
		term := bob.inTerminal(t, "./kubeshore up -d --wait 1m -n "+ns, 80)
		term.waitForLog(t, "1/2 services ready · waiting for none."+ns)
		term.press(t, ctrlS)
		down(t)
		term.checkExitsSoon(t)
		bob.waitForCleanup(t, term.daemon)
	})
	// into starts a run whose stderr is a pipe.
	into := func(t *testing.T, line string, pipe *os.File) *daemon {
		t.Helper()
		cmd := bob.command(line)
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
	t.Run("whose reader goes", func(t *testing.T) {
		for _, line := range []string{"./kubeshore up -n " + ns, "sudo ./kubeshore up -n " + ns} {
			reader, writer, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			d := into(t, line, writer)
			_ = writer.Close()
			if _, err := reader.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			_ = reader.Close() // as head does; what is said next finds nobody
			apply(t, service(ns, "news", 80, ""))
			d.checkExitsSoon(t)
			kubectl(t, "", "-n", ns, "delete", "service", "news")
			bob.waitForCleanup(t, d)
		}
	})
	t.Run("pipe", func(t *testing.T) {
		reader, writer, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		defer writer.Close()
		if err := writer.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, _ = writer.Write(make([]byte, 1<<20)) // as much as there is room for
		d := into(t, "./kubeshore up -n "+ns, writer)
		eventually(t, "it forwards", func() error {
			_, err := resolve("web." + ns)
			return err
		})
		terminate(t)
		d.checkExitsSoon(t)
		bob.waitForCleanup(t, d)
	})
}
