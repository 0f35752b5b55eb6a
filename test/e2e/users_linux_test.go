//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// ownMountsEnv has the test binary run where inside has made it a folder /etc of its own.
const ownMountsEnv = "KUBESHORE_E2E_INSIDE"

// inOwnMounts runs the rest of the test where /etc and /home are the test's own: users can be made
// there, and what sudo lets them do can be said. It returns false in the process in
// which that isn't so, when the test is over there.
func inOwnMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv(ownMountsEnv) != "" {
		for _, folder := range []string{"/etc", "/home"} {
			mountOverlay(t, folder)
		}
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), ownMountsEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS} // Go makes its mounts private
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("inside: %v", err)
	}
	return false
}

// mountOverlay has what is changed in a folder be the test's own.
func mountOverlay(t *testing.T, folder string) {
	t.Helper()
	own := t.TempDir()
	if err := syscall.Mount("tmpfs", own, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(own, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mount("overlay", folder, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%[2]s/work", folder, own)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Unmount(folder, syscall.MNT_DETACH)
		_ = syscall.Unmount(own, syscall.MNT_DETACH)
	})
}

// testUser is a user of the machine, made for a test, who may call sudo.
type testUser struct {
	name string
	uid  int
	home string
}

// newTestUser makes a user with a kubeconfig. rule is what sudoers(5) says of them.
func newTestUser(t *testing.T, name, rule string) testUser {
	t.Helper()
	p := testUser{name: name, home: filepath.Join("/home", name)}
	runCommand(t, "useradd", "--create-home", "--shell", "/bin/bash", "--user-group", name)
	runCommand(t, "groupadd", "-f", "developers")
	runCommand(t, "usermod", "-aG", "developers", name)
	uid, err := strconv.Atoi(runCommand(t, "id", "-u", name))
	if err != nil {
		t.Fatal(err)
	}
	p.uid = uid
	p.writeFile(t, ".kube/config", kubectl(t, "", "config", "view", "--raw", "--minify", "--flatten"), 0o600)
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	p.writeFile(t, "kubeshore", string(content), 0o755)
	if err := os.WriteFile(filepath.Join("/etc/sudoers.d", name), []byte(name+" ALL=(ALL) "+rule+"\n"), 0o440); err != nil {
		t.Fatal(err)
	}
	return p
}

// writeFile writes a file of the person's.
func (p testUser) writeFile(t *testing.T, name, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(p.home, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	runCommand(t, "chown", "-R", p.name, p.home)
	return path
}

func runCommand(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// command runs a command line as the person, without a terminal.
func (p testUser) command(line string) *exec.Cmd {
	cmd := exec.Command("setpriv", "--reuid", p.name, "--regid", p.name, "--init-groups", "setsid", "-w", "env", "-i",
		"HOME="+p.home, "TMPDIR="+p.home, "USER="+p.name, "LOGNAME="+p.name, "SHELL=/bin/bash", "PATH=/usr/local/bin:/usr/bin:/bin", "bash", "-c", "cd; exec "+line)
	return cmd
}

// startReady starts kubeshore as the person and waits until it is ready.
func (p testUser) startReady(t *testing.T, line string) *daemon {
	t.Helper()
	d := startDaemon(t, p.command(line))
	t.Cleanup(func() {
		select {
		case <-d.exited:
		default:
			_ = d.Process.Signal(syscall.SIGTERM)
			<-d.exited
		}
		if t.Failed() {
			t.Logf("it says\n%s", d.log.String())
		}
	})
	d.waitForLog(t, "msg=ready")
	return d
}

// run runs a command line as the person, and returns its status and what it says.
func (p testUser) run(t *testing.T, line string) (status int, out string) {
	t.Helper()
	said, err := p.command(line).CombinedOutput()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return exit.ExitCode(), string(said)
	} else if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return 0, string(said)
}

// expect runs a command line that is to end with a status and to say a text.
func (p testUser) expect(t *testing.T, line string, status int, text string) string {
	t.Helper()
	got, out := p.run(t, line)
	if got != status || !strings.Contains(out, text) {
		t.Errorf("%s: status %d, want %d and %q: %s", line, got, status, text, out)
	}
	return out
}
