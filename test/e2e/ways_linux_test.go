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

// insideEnv has the test binary run where inside has made it a folder /etc of its own.
const insideEnv = "KUBESHORE_E2E_INSIDE"

// inside runs the rest of the test where /etc and /home are the test's own: users can be made
// there, and what sudo lets them do can be said. It returns false in the process in
// which that isn't so, when the test is over there.
func inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideEnv) != "" {
		for _, folder := range []string{"/etc", "/home"} {
			takeOver(t, folder)
		}
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS} // Go makes its mounts private
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("inside: %v", err)
	}
	return false
}

// takeOver has what is changed in a folder be the test's own.
func takeOver(t *testing.T, folder string) {
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

// person is a user of the machine, made for a test, who may call sudo.
type person struct {
	name string
	uid  int
	home string
}

// newPerson makes a user with a kubeconfig. rule is what sudoers(5) says of them.
func newPerson(t *testing.T, name, rule string) person {
	t.Helper()
	p := person{name: name, home: filepath.Join("/home", name)}
	run(t, "useradd", "--create-home", "--shell", "/bin/bash", "--user-group", name)
	run(t, "groupadd", "-f", "developers")
	run(t, "usermod", "-aG", "developers", name)
	uid, err := strconv.Atoi(run(t, "id", "-u", name))
	if err != nil {
		t.Fatal(err)
	}
	p.uid = uid
	p.file(t, ".kube/config", kubectl(t, "", "config", "view", "--raw", "--minify", "--flatten"), 0o600)
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	p.file(t, "kubeshore", string(content), 0o755)
	if err := os.WriteFile(filepath.Join("/etc/sudoers.d", name), []byte(name+" ALL=(ALL) "+rule+"\n"), 0o440); err != nil {
		t.Fatal(err)
	}
	return p
}

// file writes a file of the person's.
func (p person) file(t *testing.T, name, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(p.home, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	run(t, "chown", "-R", p.name, p.home)
	return path
}

func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// does runs a command line as the person, without a terminal.
func (p person) does(line string) *exec.Cmd {
	cmd := exec.Command("setpriv", "--reuid", p.name, "--regid", p.name, "--init-groups", "setsid", "-w", "env", "-i",
		"HOME="+p.home, "TMPDIR="+p.home, "USER="+p.name, "LOGNAME="+p.name, "SHELL=/bin/bash", "PATH=/usr/local/bin:/usr/bin:/bin", "bash", "-c", "cd; exec "+line)
	return cmd
}

// ready starts kubeshore as the person and waits until it is ready.
func (p person) ready(t *testing.T, line string) *daemon {
	t.Helper()
	d := begin(t, p.does(line))
	t.Cleanup(func() {
		select {
		case <-d.ended:
		default:
			_ = d.Process.Signal(syscall.SIGTERM)
			<-d.ended
		}
		if t.Failed() {
			t.Logf("it says\n%s", d.log.String())
		}
	})
	d.says(t, "msg=ready")
	return d
}

// halves are the processes of a kubeshore that runs for a person.
type halves struct{ daemon, keeper, guard int }

// ours tells whether a process is in the test's own mount namespace: others on this machine
// may run kubeshore too.
func ours(pid string) bool {
	own, err := os.Readlink("/proc/self/ns/mnt")
	theirs, _ := os.Readlink("/proc/" + pid + "/ns/mnt") // none if it has ended
	return err == nil && theirs == own
}

// find finds the processes.
func (p person) find(t *testing.T) (h halves) {
	t.Helper()
	out := run(t, "ps", "-eo", "pid=,ruid=,args=")
	line := regexp.MustCompile(`^\s*(\d+)\s+(\d+)\s+(\S*kubeshore) (\w+)`)
	for text := range strings.Lines(out) {
		m := line.FindStringSubmatch(text)
		if m == nil {
			continue
		}
		pid, _ := strconv.Atoi(m[1])
		if !ours(m[1]) {
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
func (p person) killAll(t *testing.T) {
	t.Helper()
	h := p.find(t)
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
		if h := p.find(t); h != (halves{}) {
			return fmt.Errorf("there are %+v", h)
		}
		return nil
	})
}

// leftBehind finds files of the person's runs, beside the hosts file and in the home.
// Another user of the machine may have a lock of their own.
func (p person) leftBehind(inHome ...string) error {
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

// nothingLeft waits until no process is left and the hosts file is as it was.
func (p person) nothingLeft(t *testing.T, d *daemon) time.Duration {
	t.Helper()
	return eventually(t, "nothing is left", func() error {
		if err := d.restored(); err != nil {
			return err
		}
		if h := p.find(t); h != (halves{}) {
			return fmt.Errorf("there are %+v", h)
		}
		return p.leftBehind("kubeshore-[0-9]*")
	})
}

// Every way to start: what needs root runs as root, and the rest as the user.
func TestWaysToStart(t *testing.T) {
	if !inside(t) {
		return
	}
	ns := withWeb(t)
	ann := newPerson(t, "ann", "NOPASSWD: ALL")
	for _, line := range []string{"./kubeshore up", "sudo ./kubeshore up", "sudo -E ./kubeshore up"} {
		t.Run(line, func(t *testing.T) {
			d := ann.ready(t, line+" -n "+ns)
			h := ann.find(t)
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
			<-d.ended
			if d.err != nil {
				t.Error(d.err)
			}
			t.Logf("nothing is left after %v", ann.nothingLeft(t, d))
			if strange := run(t, "find", ann.home, "!", "-user", "ann"); strange != "" {
				t.Errorf("not the user's in the home: %s", strange)
			}
		})
	}
	t.Run("--user", func(t *testing.T) {
		d := up(t, "--user", "ann", "--kubeconfig", filepath.Join(ann.home, ".kube/config"), "-n", ns)
		h := ann.find(t)
		if h.daemon == 0 || h.keeper == 0 {
			t.Errorf("there are %+v", h)
		}
		for fd, want := range []string{"/dev/null", "pipe:", "pipe:"} {
			if is, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", h.daemon, fd)); err != nil || !strings.HasPrefix(is, want) {
				t.Errorf("descriptor %d is %s, %v", fd, is, err)
			}
		}
		d.stop(t, syscall.SIGTERM) // the keeper passes it on
		d.says(t, "everything is taken back")
		ann.nothingLeft(t, d)
	})
	t.Run("--detach --user", func(t *testing.T) {
		d := begin(t, exec.Command(program, "up", "--detach", "--user", "ann", "--kubeconfig", filepath.Join(ann.home, ".kube/config"), "-n", ns))
		d.says(t, "1 of 1 services can answer")
		<-d.ended
		if d.err != nil {
			t.Error(d.err)
		}
		ann.wants(t, "./kubeshore down", 0, "everything is taken back")
		ann.nothingLeft(t, d)
	})
	t.Run("--rootless", func(t *testing.T) {
		own := ann.file(t, "hosts", "127.0.0.1 localhost\n", 0o644)
		d := ann.ready(t, "./kubeshore up --rootless -m 80:8080 --hosts-file hosts -n "+ns)
		d.says(t, "without root: ")
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
		d := ann.ready(t, "./kubeshore up --rootless -n "+ns)
		d.says(t, "no names are written")
		d.says(t, "needs root")
	})
	t.Run("a password without a terminal", func(t *testing.T) {
		bob := newPerson(t, "bob", "ALL")
		out, err := bob.does("./kubeshore up -n " + ns).CombinedOutput()
		if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 1 || bytes.Count(out, []byte("\n")) != 1 ||
			!bytes.Contains(out, []byte("sudo can't ask for a password without a terminal")) {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// plugin has the person's credentials come of a plugin: a script, which then gives the token.
func (p person) plugin(t *testing.T, script, token string) {
	t.Helper()
	path := p.file(t, "plugin", fmt.Sprintf(`#!/bin/sh
%s
echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s"}}'
`, script, token), 0o755)
	config := filepath.Join(p.home, ".kube/config")
	user := kubectl(t, "", "--kubeconfig", config, "config", "view", "-o", "jsonpath={.users[0].name}")
	kubectl(t, "", "--kubeconfig", config, "config", "unset", "users."+user)
	kubectl(t, "", "--kubeconfig", config, "config", "set-credentials", user, "--exec-command="+path, "--exec-api-version=client.authentication.k8s.io/v1",
		"--exec-interactive-mode=IfAvailable")
	run(t, "chown", "-R", p.name, p.home)
}

// A credential plugin runs as the user, with the user's groups and home.
func TestPluginRunsAsTheUser(t *testing.T) {
	if !inside(t) {
		return
	}
	ns := namespace(t)
	apply(t, service(ns, "web", 80, ""))
	ann := newPerson(t, "ann", "NOPASSWD: ALL")
	_, token := userMay(t, ns, mayReadServices, mayReadEndpoints)
	ann.plugin(t, `echo "$(id -un), $(id -Gn) $HOME $USER $SHELL $SUDO_USER" > "$HOME/said"`, token)
	believed := "env KUBESHORE_KEEPER=0 KUBESHORE_DETACHED=plain sudo -E ./kubeshore up" // what sudo passes on
	for _, line := range []string{"./kubeshore up", "sudo ./kubeshore up", believed} {
		d := ann.ready(t, line+" -n "+ns)
		said, err := os.ReadFile(filepath.Join(ann.home, "said"))
		if want := "ann, ann developers /home/ann ann /bin/bash \n"; string(said) != want || err != nil {
			t.Errorf("%s: the plugin says %q, %v; want %q", line, said, err, want)
		}
		if strings.Contains(d.log.String(), token) {
			t.Error("the log has the token")
		}
		if err := syscall.Kill(ann.find(t).daemon, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		<-d.ended
		ann.nothingLeft(t, d)
	}
}

// What a credential plugin leaves behind has nothing of kubeshore's: when the daemon is
// killed, all ends.
func TestPluginLeavesAProcess(t *testing.T) {
	if !inside(t) {
		return
	}
	ns := namespace(t)
	apply(t, service(ns, "web", 80, ""))
	ann := newPerson(t, "ann", "NOPASSWD: ALL")
	_, token := userMay(t, ns, mayReadServices, mayReadEndpoints)
	ann.plugin(t, `setsid sleep 300 </dev/null >/dev/null 2>&1 &
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
	before := hostsNow(t)
	for _, line := range []string{"./kubeshore up", "sudo ./kubeshore up"} {
		ann.wants(t, line+" -d --wait 0s -n "+ns, 0, "kubeshore runs in the background")
		if err := syscall.Kill(ann.find(t).daemon, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		run(t, "rm", filepath.Join(ann.home, ".local/state/kubeshore/kubeshore.sock")) // as it was killed
		ann.clean(t, before)
	}
	if has, err := os.ReadFile(filepath.Join(ann.home, "has")); err != nil || strings.TrimSpace(string(has)) != "" {
		t.Errorf("a plugin has %q, %v", has, err)
	}
}

// Two users at once have names and addresses of their own, and what one has the other
// is refused.
func TestTwoUsers(t *testing.T) {
	if !inside(t) {
		return
	}
	ns := namespace(t)
	apply(t, service(ns, "web", 80, ""))
	ann, bob := newPerson(t, "ann", "NOPASSWD: ALL"), newPerson(t, "bob", "NOPASSWD: ALL")
	before := ann.ready(t, "./kubeshore up -n "+ns)
	second := bob.ready(t, "./kubeshore up --domain bobs.test -n "+ns)
	second.says(t, hostsFile+" already maps web."+ns+" to ")
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
