//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// usePlugin makes the user's kubeconfig use a credential plugin that runs
// script and then prints the token.
func (u testUser) usePlugin(t *testing.T, script, token string) {
	t.Helper()
	path := u.writeFile(t, "plugin", fmt.Sprintf(`#!/bin/sh
%s
echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s"}}'
`, script, token), 0o755)
	config := filepath.Join(u.home, ".kube/config")
	user := kubectl(t, "", "--kubeconfig", config, "config", "view", "-o", "jsonpath={.users[0].name}")
	kubectl(t, "", "--kubeconfig", config, "config", "unset", "users."+user)
	kubectl(t, "", "--kubeconfig", config, "config", "set-credentials", user, "--exec-command="+path, "--exec-api-version=client.authentication.k8s.io/v1",
		"--exec-interactive-mode=IfAvailable")
	runCommand(t, "chown", "-R", u.name, u.home)
}

// A credential plugin runs as the user, with the user's groups and home
// directory.
func TestPluginRunsAsUser(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""))
	ann := newTestUser(t, "ann", "NOPASSWD: ALL")
	_, token := limitedUser(t, ns, mayReadServices, mayReadEndpoints)
	ann.usePlugin(t, `echo "$(id -un), $(id -Gn) $HOME $USER $SHELL $SUDO_USER" > "$HOME/environment"`, token)
	spoofed := "env KUBESHORE_KEEPER=0 KUBESHORE_DETACHED=plain sudo -E ./kubeshore up" // variables that sudo -E passes on
	for _, line := range []string{"./kubeshore up", "sudo ./kubeshore up", spoofed} {
		d := ann.startReady(t, line+" -n "+ns)
		got, err := os.ReadFile(filepath.Join(ann.home, "environment"))
		if want := "ann, ann developers /home/ann ann /bin/bash \n"; string(got) != want || err != nil {
			t.Errorf("%s: got plugin environment %q, %v; want %q", line, got, err, want)
		}
		if strings.Contains(d.log.String(), token) {
			t.Error("log contains the token")
		}
		if err := syscall.Kill(ann.processes(t).daemon, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		<-d.exited
		ann.waitForCleanup(t, d)
	}
}

// A process that a credential plugin leaves behind has no file or variable of
// kubeshore, and doesn't delay the cleanup after the daemon was killed.
func TestPluginChildInheritsNothing(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""))
	ann := newTestUser(t, "ann", "NOPASSWD: ALL")
	_, token := limitedUser(t, ns, mayReadServices, mayReadEndpoints)
	ann.usePlugin(t, `setsid sleep 300 </dev/null >/dev/null 2>&1 &
echo $! >> "$HOME/children"
echo "$KUBESHORE_KEEPER$KUBESHORE_DETACHED" $(readlink /proc/$$/fd/* | grep socket) >> "$HOME/inherited"`, token)
	t.Cleanup(func() {
		children, _ := os.ReadFile(filepath.Join(ann.home, "children"))
		for _, pid := range strings.Fields(string(children)) {
			if pid, err := strconv.Atoi(pid); err == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	})
	before := readHosts(t)
	for _, line := range []string{"./kubeshore up", "sudo ./kubeshore up"} {
		ann.expect(t, line+" -d --wait 0s -n "+ns, 0, "running in the background (pid ")
		if err := syscall.Kill(ann.processes(t).daemon, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		runCommand(t, "rm", filepath.Join(ann.home, ".local/state/kubeshore/kubeshore.sock")) // a killed daemon leaves it
		ann.checkCleanedUp(t, before)
	}
	if got, err := os.ReadFile(filepath.Join(ann.home, "inherited")); err != nil || strings.TrimSpace(string(got)) != "" {
		t.Errorf("plugin inherited %q, %v; want nothing", got, err)
	}
}

// A credential plugin can prompt in the terminal, even before kubeshore
// detaches.
func TestPluginPromptHasTerminal(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := namespaceWithWeb(t)
	ann := newTestUser(t, "ann", "NOPASSWD: ALL")
	_, token := limitedUser(t, ns, mayReadServices, mayReadEndpoints, mayForward)
	ann.usePlugin(t, `if ! [ -e "$HOME/code" ]; then
	[ -t 0 ] || { echo "no terminal to ask for the code" >&2; exit 1; }
	printf 'Code, please: ' >&2
	read -r code
	[ "$code" = 1234 ] || exit 1
	echo "$code" > "$HOME/code"
fi`, token)
	before := readHosts(t)
	for _, c := range []struct{ line, want string }{
		{"./kubeshore up -d", "1 of 1 services ready"},
		{"sudo ./kubeshore up -d", "1 of 1 services ready"},
		{"./kubeshore up", "1/1 services ready"},
		{"sudo ./kubeshore up", "1/1 services ready"},
	} {
		t.Run(c.line, func(t *testing.T) {
			term := ann.inTerminal(t, c.line+" -n "+ns, 120)
			term.waitForLog(t, "Code, please: ")
			term.press(t, "1234\n")
			term.waitForLog(t, c.want)
			if _, err := resolve("web." + ns); err != nil {
				t.Error(err)
			}
			ann.expect(t, "./kubeshore down", 0, "stopped and cleaned up")
			<-term.exited
			if term.err != nil {
				t.Error(term.err)
			}
			ann.checkCleanedUp(t, before)
			runCommand(t, "rm", filepath.Join(ann.home, "code"))
		})
	}
	t.Run("no terminal", func(t *testing.T) {
		ann.expect(t, "./kubeshore up -d -n "+ns, 1, "no terminal to ask for the code")
		ann.checkCleanedUp(t, before)
	})
}
