//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
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

// Every way to start: what needs root runs as root, and the rest as the user.
func TestOnlyKeeperAndGuardRunAsRoot(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := namespaceWithWeb(t)
	ann := newTestUser(t, "ann", "NOPASSWD: ALL")
	for _, line := range []string{"./kubeshore up", "sudo ./kubeshore up", "sudo -E ./kubeshore up"} {
		t.Run(line, func(t *testing.T) {
			d := ann.startReady(t, line+" -n "+ns)
			h := ann.processes(t)
			if h.daemon == 0 || h.keeper == 0 || h.guard == 0 {
				t.Errorf("there are %+v", h)
			}
			mustGet(t, "http://web."+ns)
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.daemon))
			if err != nil || !strings.Contains(string(status), fmt.Sprintf("Uid:\t%d\t%[1]d\t%[1]d\t%[1]d\n", ann.uid)) ||
				!regexp.MustCompile(`CapEff:\s0+\n`).Match(status) {
				t.Errorf("the daemon's status is %s, %v", status, err)
			}
			if err := syscall.Kill(h.daemon, syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			<-d.exited
			if d.err != nil {
				t.Error(d.err)
			}
			t.Logf("nothing is left after %v", ann.waitForCleanup(t, d))
			if strange := runCommand(t, "find", ann.home, "!", "-user", "ann"); strange != "" {
				t.Errorf("not the user's in the home: %s", strange)
			}
		})
	}
	t.Run("--user", func(t *testing.T) {
		d := up(t, "--user", "ann", "--kubeconfig", filepath.Join(ann.home, ".kube/config"), "-n", ns)
		h := ann.processes(t)
		if h.daemon == 0 || h.keeper == 0 {
			t.Errorf("there are %+v", h)
		}
		for fd, want := range []string{"/dev/null", "pipe:", "pipe:"} {
			if is, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", h.daemon, fd)); err != nil || !strings.HasPrefix(is, want) {
				t.Errorf("descriptor %d is %s, %v", fd, is, err)
			}
		}
		d.stop(t, syscall.SIGTERM) // the keeper passes it on
		d.waitForLog(t, "everything is taken back")
		ann.waitForCleanup(t, d)
	})
	t.Run("--detach --user", func(t *testing.T) {
		d := startDaemon(t, exec.Command(program, "up", "--detach", "--user", "ann", "--kubeconfig", filepath.Join(ann.home, ".kube/config"), "-n", ns))
		d.waitForLog(t, "1 of 1 services can answer")
		<-d.exited
		if d.err != nil {
			t.Error(d.err)
		}
		ann.expect(t, "./kubeshore down", 0, "everything is taken back")
		ann.waitForCleanup(t, d)
	})
	t.Run("--rootless", func(t *testing.T) {
		own := ann.writeFile(t, "hosts", "127.0.0.1 localhost\n", 0o644)
		d := ann.startReady(t, "./kubeshore up --rootless -m 80:8080 --hosts-file hosts -n "+ns)
		d.waitForLog(t, "without root: ")
		address := regexp.MustCompile(`web\S*  (127\.\S+:8080)`).FindStringSubmatch(d.log.String())
		if address == nil {
			t.Fatalf("it says %s", d.log.String())
		}
		mustGet(t, "http://"+address[1])
		if text, err := os.ReadFile(own); err != nil || !strings.Contains(string(text), "web."+ns) {
			t.Errorf("its hosts file has %s, %v", text, err)
		}
	})
	t.Run("--rootless without a hosts file", func(t *testing.T) {
		d := ann.startReady(t, "./kubeshore up --rootless -n "+ns)
		d.waitForLog(t, "no names are written")
		d.waitForLog(t, "needs root")
	})
	t.Run("a password without a terminal", func(t *testing.T) {
		bob := newTestUser(t, "bob", "ALL")
		out, err := bob.command("./kubeshore up -n " + ns).CombinedOutput()
		if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 1 || bytes.Count(out, []byte("\n")) != 1 ||
			!bytes.Contains(out, []byte("sudo can't ask for a password without a terminal")) {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// usePlugin has the person's credentials come of a plugin: a script, which then gives the token.
func (p testUser) usePlugin(t *testing.T, script, token string) {
	t.Helper()
	path := p.writeFile(t, "plugin", fmt.Sprintf(`#!/bin/sh
%s
echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s"}}'
`, script, token), 0o755)
	config := filepath.Join(p.home, ".kube/config")
	user := kubectl(t, "", "--kubeconfig", config, "config", "view", "-o", "jsonpath={.users[0].name}")
	kubectl(t, "", "--kubeconfig", config, "config", "unset", "users."+user)
	kubectl(t, "", "--kubeconfig", config, "config", "set-credentials", user, "--exec-command="+path, "--exec-api-version=client.authentication.k8s.io/v1",
		"--exec-interactive-mode=IfAvailable")
	runCommand(t, "chown", "-R", p.name, p.home)
}

// A credential plugin runs as the user, with the user's groups and home.
func TestPluginRunsAsUser(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""))
	ann := newTestUser(t, "ann", "NOPASSWD: ALL")
	_, token := limitedUser(t, ns, mayReadServices, mayReadEndpoints)
	ann.usePlugin(t, `echo "$(id -un), $(id -Gn) $HOME $USER $SHELL $SUDO_USER" > "$HOME/said"`, token)
	believed := "env KUBESHORE_KEEPER=0 KUBESHORE_DETACHED=plain sudo -E ./kubeshore up" // what sudo passes on
	for _, line := range []string{"./kubeshore up", "sudo ./kubeshore up", believed} {
		d := ann.startReady(t, line+" -n "+ns)
		said, err := os.ReadFile(filepath.Join(ann.home, "said"))
		if want := "ann, ann developers /home/ann ann /bin/bash \n"; string(said) != want || err != nil {
			t.Errorf("%s: the plugin says %q, %v; want %q", line, said, err, want)
		}
		if strings.Contains(d.log.String(), token) {
			t.Error("the log has the token")
		}
		if err := syscall.Kill(ann.processes(t).daemon, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		<-d.exited
		ann.waitForCleanup(t, d)
	}
}

// What a credential plugin leaves behind has nothing of kubeshore's: when the daemon is
// killed, all ends.
func TestPluginChildInheritsNothing(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""))
	ann := newTestUser(t, "ann", "NOPASSWD: ALL")
	_, token := limitedUser(t, ns, mayReadServices, mayReadEndpoints)
	ann.usePlugin(t, `setsid sleep 300 </dev/null >/dev/null 2>&1 &
echo $! >> "$HOME/left"
echo "$KUBESHORE_KEEPER$KUBESHORE_DETACHED" $(readlink /proc/$$/fd/* | grep socket) >> "$HOME/has"`, token)
	t.Cleanup(func() {
		left, _ := os.ReadFile(filepath.Join(ann.home, "left"))
		for _, pid := range strings.Fields(string(left)) {
			if pid, err := strconv.Atoi(pid); err == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	})
	before := readHosts(t)
	for _, line := range []string{"./kubeshore up", "sudo ./kubeshore up"} {
		ann.expect(t, line+" -d --wait 0s -n "+ns, 0, "kubeshore runs in the background")
		if err := syscall.Kill(ann.processes(t).daemon, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		runCommand(t, "rm", filepath.Join(ann.home, ".local/state/kubeshore/kubeshore.sock")) // as it was killed
		ann.checkCleanedUp(t, before)
	}
	if has, err := os.ReadFile(filepath.Join(ann.home, "has")); err != nil || strings.TrimSpace(string(has)) != "" {
		t.Errorf("a plugin has %q, %v", has, err)
	}
}

// Two users at once have names and addresses of their own, and what one has the other
// is refused.
func TestTwoUsersRunSideBySide(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""))
	ann, bob := newTestUser(t, "ann", "NOPASSWD: ALL"), newTestUser(t, "bob", "NOPASSWD: ALL")
	before := ann.startReady(t, "./kubeshore up -n "+ns)
	second := bob.startReady(t, "./kubeshore up --domain bobs.test -n "+ns)
	second.waitForLog(t, "the hosts file has the name web."+ns+" already")
	first, err := resolve("web." + ns)
	if err != nil {
		t.Fatal(err)
	}
	other, err := resolve("web." + ns + ".bobs.test")
	if err != nil || other == first {
		t.Errorf("at %s and at %s, %v", first, other, err)
	}
	if err := syscall.Kill(-before.Process.Pid, syscall.SIGTERM); err != nil {
		if err := before.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the other one takes the name up", func() error {
		at, err := resolve("web." + ns)
		if err == nil && at != other {
			err = fmt.Errorf("it is at %s, not at %s", at, other)
		}
		return err
	})
}
