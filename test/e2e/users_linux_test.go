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

// ownMountsEnv is set in the test process that inOwnMounts starts.
const ownMountsEnv = "KUBESHORE_E2E_INSIDE"

// inOwnMounts runs the test again in a process with its own /etc and /home,
// where the test can create users and change sudoers. It returns true in that
// process, and false in the original one after the test has finished there.
func inOwnMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv(ownMountsEnv) != "" {
		for _, dir := range []string{"/etc", "/home"} {
			mountOverlay(t, dir)
		}
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), ownMountsEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS} // Go also makes the mounts private
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("test in its own mount namespace: got %v, want it to pass", err)
	}
	return false
}

// mountOverlay makes changes in a directory visible to this process only.
func mountOverlay(t *testing.T, dir string) {
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
	if err := syscall.Mount("overlay", dir, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%[2]s/work", dir, own)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Unmount(dir, syscall.MNT_DETACH)
		_ = syscall.Unmount(own, syscall.MNT_DETACH)
	})
}

// testUser is a user of the machine, created for a test, who may call sudo.
type testUser struct {
	name string
	uid  int
	home string
}

// newTestUser creates a user with a kubeconfig and a copy of the program. rule
// is the user's privilege in the syntax of sudoers(5).
func newTestUser(t *testing.T, name, rule string) testUser {
	t.Helper()
	u := testUser{name: name, home: filepath.Join("/home", name)}
	runCommand(t, "useradd", "--create-home", "--shell", "/bin/bash", "--user-group", name)
	runCommand(t, "groupadd", "-f", "developers")
	runCommand(t, "usermod", "-aG", "developers", name)
	uid, err := strconv.Atoi(runCommand(t, "id", "-u", name))
	if err != nil {
		t.Fatal(err)
	}
	u.uid = uid
	u.writeFile(t, ".kube/config", kubectl(t, "", "config", "view", "--raw", "--minify", "--flatten"), 0o600)
	for _, path := range []string{program + "-root", program} {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		u.writeFile(t, filepath.Base(path), string(content), 0o755)
	}
	if err := os.WriteFile(filepath.Join("/etc/sudoers.d", name), []byte(name+" ALL=(ALL) "+rule+"\n"), 0o440); err != nil {
		t.Fatal(err)
	}
	return u
}

// writeFile writes a file to the user's home directory and returns its path.
func (u testUser) writeFile(t *testing.T, name, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(u.home, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	runCommand(t, "chown", "-R", u.name, u.home)
	return path
}

// command returns a command that runs a command line as the user, without a
// terminal.
func (u testUser) command(line string) *exec.Cmd {
	cmd := exec.Command("setpriv", "--reuid", u.name, "--regid", u.name, "--init-groups", "setsid", "-w", "env", "-i",
		"HOME="+u.home, "TMPDIR="+u.home, "USER="+u.name, "LOGNAME="+u.name, "SHELL=/bin/bash", "PATH=/usr/local/bin:/usr/bin:/bin", "bash", "-c", "cd; exec "+line)
	return cmd
}

// startReady runs kubeshore as the user and waits until it is ready.
func (u testUser) startReady(t *testing.T, line string) *daemon {
	t.Helper()
	d := startDaemon(t, u.command(line))
	t.Cleanup(func() {
		select {
		case <-d.exited:
		default:
			_ = d.Process.Signal(syscall.SIGTERM)
			<-d.exited
		}
		if t.Failed() {
			t.Logf("log of the daemon:\n%s", d.log.String())
		}
	})
	d.waitForStart(t)
	return d
}

// run runs a command line as the user and returns its status and output.
func (u testUser) run(t *testing.T, line string) (status int, out string) {
	t.Helper()
	output, err := u.command(line).CombinedOutput()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return exit.ExitCode(), string(output)
	}
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return 0, string(output)
}

// expect runs a command line as the user, checks its status and that its
// output contains text, and returns the output.
func (u testUser) expect(t *testing.T, line string, status int, text string) string {
	t.Helper()
	got, out := u.run(t, line)
	if got != status || !strings.Contains(out, text) {
		t.Errorf("%s: got status %d and output\n%s\nwant status %d and %q", line, got, out, status, text)
	}
	return out
}
