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
