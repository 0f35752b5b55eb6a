//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The password that kubeshore's sudo asks for leaves no ticket that makes a
// credential plugin root. The plugin shares the terminal with kubeshore.
func TestPluginGetsNoSudoTicket(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := namespaceWithWeb(t)
	bob := newTestUser(t, "bob", "ALL")
	const password = "correct horse"
	setPassword(t, bob, password)
	_, token := limitedUser(t, ns, mayReadServices, mayReadEndpoints)
	bob.usePlugin(t, `sudo -n id -un > "$HOME/became" 2>/dev/null || echo refused > "$HOME/became"`, token)
	tickets := func() { runCommand(t, "rm", "-rf", "/run/sudo/ts/bob") }
	for _, c := range []struct{ name, line, want string }{
		{"sudo started by kubeshore", "./kubeshore up -n " + ns, "refused"},
		{"in the background", "./kubeshore up -d -n " + ns, "refused"},
		{"with sudo, in a pseudo-terminal", "sudo ./kubeshore up -n " + ns, "refused"},
		{"with the user's own ticket", "bash -c 'sudo true && ./kubeshore up -n " + ns + "'", "root"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Cleanup(tickets)
			term := bob.inTerminal(t, c.line, 120)
			term.waitForLog(t, "password for bob")
			term.press(t, password+"\n")
			term.waitForLog(t, "services ready")
			if strings.Contains(c.line, " -d ") {
				bob.expect(t, "./kubeshore down", 0, "stopped and cleaned up")
			} else if err := syscall.Kill(bob.processes(t).daemon, syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			<-term.exited
			bob.waitForCleanup(t, term.daemon)
			got, err := os.ReadFile(filepath.Join(bob.home, "became"))
			if err != nil || strings.TrimSpace(string(got)) != c.want {
				t.Errorf("the plugin's sudo -n: got %q, %v; want %s", got, err, c.want)
			}
			if err := os.Remove(filepath.Join(bob.home, "became")); err != nil {
				t.Error(err)
			}
		})
	}
}
