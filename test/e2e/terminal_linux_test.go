//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// terminal is a terminal with a program in it.
type terminal struct {
	*daemon
	keys *os.File
}

// inTerminal runs a command line as the person, in a terminal of that size.
func (p testUser) inTerminal(t *testing.T, line string, columns uint16) *terminal {
	t.Helper()
	cmd := exec.Command("setpriv", "--reuid", p.name, "--regid", p.name, "--init-groups", "env", "-i", "TERM=xterm-256color",
		"HOME="+p.home, "TMPDIR="+p.home, "USER="+p.name, "LOGNAME="+p.name, "SHELL=/bin/bash", "PATH=/usr/local/bin:/usr/bin:/bin", "bash", "-c", "cd; exec "+line)
	before, err := os.ReadFile(hostsFile)
	if err != nil {
		t.Fatal(err)
	}
	blocking, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 30, Cols: columns})
	if err != nil {
		t.Fatal(err)
	}
	defer blocking.Close()
	fd, err := syscall.Dup(int(blocking.Fd())) // closing that one would wait for who reads it
	if err == nil {
		err = syscall.SetNonblock(fd, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	syscall.CloseOnExec(fd)
	keys := os.NewFile(uintptr(fd), blocking.Name())
	term := &terminal{daemon: &daemon{Cmd: cmd, exited: make(chan struct{}), hostsBefore: before}, keys: keys}
	go func() {
		_, _ = keys.WriteTo(&term.log) // until no process has the terminal, or it is closed
		term.err = cmd.Wait()
		close(term.exited)
	}()
	t.Cleanup(func() {
		_ = keys.Close()
		<-term.exited
		if t.Failed() {
			t.Logf("the terminal shows\n%s", term.log.String())
		}
	})
	return term
}

// press presses keys.
func (term *terminal) press(t *testing.T, keys string) {
	t.Helper()
	if _, err := term.keys.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// In a terminal sudo asks for the password, Ctrl-C takes everything back, and so does
// closing the terminal; also while it asks.
func TestTerminalEndsRunCleanly(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := namespaceWithWeb(t)
	bob := newTestUser(t, "bob", "ALL")
	const password = "correct horse"
	setPassword := exec.Command("chpasswd")
	setPassword.Stdin = strings.NewReader("bob:" + password + "\n")
	if out, err := setPassword.CombinedOutput(); err != nil {
		t.Fatalf("chpasswd: %v: %s", err, out)
	}
	const ctrlC, ctrlD = "\x03", "\x04"
	closed := func(t *testing.T, term *terminal) {
		t.Helper()
		if err := term.keys.Close(); err != nil {
			t.Fatal(err)
		}
	}
	press := func(keys string) func(*testing.T, *terminal) {
		return func(t *testing.T, term *terminal) {
			t.Helper()
			term.press(t, keys)
		}
	}
	for _, c := range []struct {
		name, line string
		password   string // what is typed; none: it isn't come to that
		end        func(*testing.T, *terminal)
		status     int
		says       string
	}{
		{"Ctrl-C", "./kubeshore up", password, press(ctrlC), 0, "everything is taken back"},
		{"Ctrl-C under sudo", "sudo ./kubeshore up", password, press(ctrlC), 0, "everything is taken back"},
		{"closed", "./kubeshore up", password, closed, -1, ""},
		{"closed under sudo", "sudo ./kubeshore up", password, closed, -1, ""},
		{"Ctrl-C at the prompt", "./kubeshore up", "", press(ctrlC), -1, ""},
		{"Ctrl-D at the prompt", "./kubeshore up", "", press(ctrlD), 1, "sudo has not started kubeshore's keeper"},
		{"closed at the prompt", "./kubeshore up", "", closed, -1, ""},
		{"down at the prompt", "./kubeshore up", "", func(t *testing.T, _ *terminal) {
			t.Helper()
			bob.expect(t, "./kubeshore ps", 0, "it is just starting: namespace "+ns)
			bob.expect(t, "./kubeshore down", 0, "has ended")
		}, 0, "kubeshore down: taking everything back"},
	} {
		t.Run(c.name, func(t *testing.T) {
			term := bob.inTerminal(t, c.line+" -n "+ns, 120)
			term.waitForLog(t, "assword")
			if c.password != "" {
				term.press(t, c.password+"\n")
				term.waitForLog(t, "ready")
				mustGet(t, "http://web."+ns)
				if strings.Contains(term.log.String(), c.password) {
					t.Error("the password is shown")
				}
			}
			c.end(t, term)
			<-term.exited
			if c.status >= 0 && term.ProcessState.ExitCode() != c.status {
				t.Errorf("it ends with %v, want status %d", term.err, c.status)
			}
			if !strings.Contains(term.log.String(), c.says) {
				t.Errorf("it says %q", term.log.String())
			}
			bob.waitForCleanup(t, term.daemon)
			runCommand(t, "rm", "-rf", "/run/sudo/ts/bob") // sudo forgets the password
		})
	}
	t.Run("wrong password", func(t *testing.T) {
		term := bob.inTerminal(t, "./kubeshore up -n "+ns, 120)
		for i := range 3 {
			eventually(t, "sudo asks", func() error {
				if n := strings.Count(term.log.String(), "Password of bob"); n <= i {
					return fmt.Errorf("it has %d times", n)
				}
				return nil
			})
			term.press(t, "wrong\n")
		}
		<-term.exited
		if exit := new(exec.ExitError); !errors.As(term.err, &exit) || exit.ExitCode() != 1 || !strings.Contains(term.log.String(), "sudo has not started kubeshore's keeper") {
			t.Errorf("it ends with %v", term.err)
		}
		bob.waitForCleanup(t, term.daemon)
	})
	t.Run("stopped and continued", func(t *testing.T) {
		term := bob.inTerminal(t, "./kubeshore up -n "+ns, 120)
		term.waitForLog(t, "assword")
		term.press(t, password+"\n")
		term.waitForLog(t, "ready")
		daemon := bob.processes(t).daemon
		if err := syscall.Kill(daemon, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if _, err := resolve("web." + ns); err != nil {
			t.Error(err)
		}
		if err := syscall.Kill(daemon, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		mustGet(t, "http://web."+ns)
		term.press(t, ctrlC)
		<-term.exited
		bob.waitForCleanup(t, term.daemon)
	})
}

// A credential plugin that asks has the terminal, also before what goes to the background.
func TestPluginPromptHasTerminal(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := namespaceWithWeb(t)
	ann := newTestUser(t, "ann", "NOPASSWD: ALL")
	_, token := limitedUser(t, ns, mayReadServices, mayReadEndpoints)
	ann.usePlugin(t, `if ! [ -e "$HOME/code" ]; then
	[ -t 0 ] || { echo "no terminal to ask for the code" >&2; exit 1; }
	printf 'Code, please: ' >&2
	read -r code
	[ "$code" = 1234 ] || exit 1
	echo "$code" > "$HOME/code"
fi`, token)
	before := readHosts(t)
	for _, c := range []struct{ line, says string }{
		{"./kubeshore up -d", "1 of 1 services can answer"},
		{"sudo ./kubeshore up -d", "1 of 1 services can answer"},
		{"./kubeshore up", "1/1 services ready"},
		{"sudo ./kubeshore up", "1/1 services ready"},
	} {
		t.Run(c.line, func(t *testing.T) {
			term := ann.inTerminal(t, c.line+" -n "+ns, 120)
			term.waitForLog(t, "Code, please: ")
			term.press(t, "1234\n")
			term.waitForLog(t, c.says)
			if _, err := resolve("web." + ns); err != nil {
				t.Error(err)
			}
			ann.expect(t, "./kubeshore down", 0, "everything is taken back")
			<-term.exited
			if term.err != nil {
				t.Error(term.err)
			}
			ann.checkCleanedUp(t, before)
			runCommand(t, "rm", filepath.Join(ann.home, "code"))
		})
	}
	t.Run("nobody to ask", func(t *testing.T) {
		ann.expect(t, "./kubeshore up -d -n "+ns, 1, "no terminal to ask for the code")
		ann.checkCleanedUp(t, before)
	})
}

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
