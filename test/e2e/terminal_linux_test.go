//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

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
