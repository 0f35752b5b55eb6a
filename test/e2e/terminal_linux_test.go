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

// terminal is a terminal with a running program. The program's output is in
// the daemon's log.
type terminal struct {
	*daemon
	keys *os.File
}

// inTerminal runs a command line as the user, in a terminal with the given
// number of columns.
func (u testUser) inTerminal(t *testing.T, line string, columns uint16) *terminal {
	t.Helper()
	cmd := exec.Command("setpriv", "--reuid", u.name, "--regid", u.name, "--init-groups", "env", "-i", "TERM=xterm-256color",
		"HOME="+u.home, "TMPDIR="+u.home, "USER="+u.name, "LOGNAME="+u.name, "SHELL=/bin/bash", "PATH=/usr/local/bin:/usr/bin:/bin", "bash", "-c", "cd; exec "+line)
	before, err := os.ReadFile(hostsFile)
	if err != nil {
		t.Fatal(err)
	}
	blocking, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 30, Cols: columns})
	if err != nil {
		t.Fatal(err)
	}
	defer blocking.Close()
	fd, err := syscall.Dup(int(blocking.Fd())) // closing blocking itself would wait for its reader
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
		_, _ = keys.WriteTo(&term.log) // until no process has the terminal open, or keys is closed
		term.err = cmd.Wait()
		close(term.exited)
	}()
	t.Cleanup(func() {
		_ = keys.Close()
		<-term.exited
		if t.Failed() {
			t.Logf("terminal output:\n%s", term.log.String())
		}
	})
	return term
}

// press sends keys to the terminal.
func (term *terminal) press(t *testing.T, keys string) {
	t.Helper()
	if _, err := term.keys.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

const (
	ctrlC = "\x03"
	ctrlD = "\x04"
)

// Ctrl-C and closing the terminal end the run and clean up, also while sudo
// prompts for the password.
func TestTerminalEndsRunCleanly(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := namespaceWithWeb(t)
	bob := newTestUser(t, "bob", "ALL")
	const password = "correct horse"
	setPassword(t, bob, password)
	closeTerminal := func(t *testing.T, term *terminal) {
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
	for _, c := range []terminalCase{
		{"Ctrl-C", "./kubeshore up", password, press(ctrlC), 0, "cleaned up"},
		{"Ctrl-C under sudo", "sudo ./kubeshore up", password, press(ctrlC), 0, "cleaned up"},
		{"close", "./kubeshore up", password, closeTerminal, -1, ""},
		{"close under sudo", "sudo ./kubeshore up", password, closeTerminal, -1, ""},
		{"Ctrl-C at the prompt", "./kubeshore up", "", press(ctrlC), -1, ""},
		{"Ctrl-D at the prompt", "./kubeshore up", "", press(ctrlD), 1, "sudo failed (exit status 1)"},
		{"close at the prompt", "./kubeshore up", "", closeTerminal, -1, ""},
		{"down at the prompt", "./kubeshore up", "", func(t *testing.T, _ *terminal) {
			t.Helper()
			bob.expect(t, "./kubeshore ps", 0, "starting: namespace "+ns)
			bob.expect(t, "./kubeshore down", 0, "stopped and cleaned up")
		}, 0, "kubeshore down: shutting down"},
	} {
		t.Run(c.name, func(t *testing.T) { testTerminalEnd(t, bob, ns, c) })
	}
	t.Run("wrong password", func(t *testing.T) { testWrongPassword(t, bob, ns) })
	t.Run("stopped and continued", func(t *testing.T) { testStopAndContinue(t, bob, ns, password) })
}

// terminalCase is a way to end a run in a terminal.
type terminalCase struct {
	name     string
	line     string
	password string // typed at the prompt; "" to end the run there
	end      func(*testing.T, *terminal)
	status   int // -1 for any
	output   string
}

func testTerminalEnd(t *testing.T, u testUser, ns string, c terminalCase) {
	term := u.inTerminal(t, c.line+" -n "+ns, 120)
	term.waitForLog(t, "assword")
	if c.password != "" {
		term.press(t, c.password+"\n")
		term.waitForLog(t, "ready")
		mustGet(t, "http://web."+ns)
		if strings.Contains(term.log.String(), c.password) {
			t.Error("terminal shows the password")
		}
	}
	c.end(t, term)
	<-term.exited
	if c.status >= 0 && term.ProcessState.ExitCode() != c.status {
		t.Errorf("got %v, want status %d", term.err, c.status)
	}
	if !strings.Contains(term.log.String(), c.output) {
		t.Errorf("got output %q, want it to contain %q", term.log.String(), c.output)
	}
	u.waitForCleanup(t, term.daemon)
	runCommand(t, "rm", "-rf", "/run/sudo/ts/"+u.name) // makes sudo prompt again
}

func testWrongPassword(t *testing.T, u testUser, ns string) {
	term := u.inTerminal(t, "./kubeshore up -n "+ns, 120)
	for i := range 3 {
		eventually(t, "sudo prompts", func() error {
			if n := strings.Count(term.log.String(), "[sudo] password for "+u.name); n <= i {
				return fmt.Errorf("got %d prompts, want %d", n, i+1)
			}
			return nil
		})
		term.press(t, "wrong\n")
	}
	<-term.exited
	const want = "sudo failed (exit status 1)"
	if exit := new(exec.ExitError); !errors.As(term.err, &exit) || exit.ExitCode() != 1 || !strings.Contains(term.log.String(), want) {
		t.Errorf("got %v and output %q, want status 1 and %q", term.err, term.log.String(), want)
	}
	u.waitForCleanup(t, term.daemon)
}

func testStopAndContinue(t *testing.T, u testUser, ns, password string) {
	term := u.inTerminal(t, "./kubeshore up -n "+ns, 120)
	term.waitForLog(t, "assword")
	term.press(t, password+"\n")
	term.waitForLog(t, "ready")
	pid := u.processes(t).daemon
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if _, err := resolve("web." + ns); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	mustGet(t, "http://web."+ns)
	term.press(t, ctrlC)
	<-term.exited
	u.waitForCleanup(t, term.daemon)
}

func setPassword(t *testing.T, u testUser, password string) {
	t.Helper()
	cmd := exec.Command("chpasswd")
	cmd.Stdin = strings.NewReader(u.name + ":" + password + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("chpasswd: %v: %s", err, out)
	}
}
