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

// The password that kubeshore's sudo asks for leaves no ticket that makes a
// credential plugin root, and no plugin runs before it is typed: a process that one
// leaves behind could read it. The plugin shares the terminal with kubeshore.
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
			if _, err := os.Stat(filepath.Join(bob.home, "became")); err == nil {
				t.Error("a plugin has run before the password was asked for")
			}
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

// With the rule that kubeshore sudoers prints, a user who may run nothing else as root
// needs no password, and sudo and keeper-connect refuse everything else.
func TestSudoersRule(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	mountOverlay(t, "/usr/local")
	ns := namespaceWithWeb(t)
	bob := newTestUser(t, "bob", "/bin/false")
	bob.expect(t, "./kubeshore sudoers", 1, "/home/bob belongs to user ")
	for _, name := range []string{"kubeshore", "kubeshore-root"} {
		runCommand(t, "install", "-m", "755", filepath.Join(bob.home, name), "/usr/local/bin/"+name)
		if err := os.Remove(filepath.Join(bob.home, name)); err != nil {
			t.Fatal(err)
		}
	}
	status, rule := bob.run(t, "kubeshore sudoers")
	if err := os.WriteFile("/etc/sudoers.d/bob", []byte(rule), 0o440); err != nil || status != 0 {
		t.Fatalf("sudoers: got status %d, %s, %v", status, rule, err)
	}
	t.Logf("%s%s", rule, runCommand(t, "visudo", "-cf", "/etc/sudoers.d/bob"))
	bob.checkRule(t)
	d := bob.startReady(t, "kubeshore up -n "+ns)
	mustGet(t, "http://web."+ns)
	if err := syscall.Kill(bob.processes(t).daemon, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-d.exited
	bob.waitForCleanup(t, d)
	if strings.Contains(d.log.String(), "can replace") {
		t.Errorf("got log\n%s\nwant no warning about the program", d.log.String())
	}
}

// checkRule checks what a user with the rule can't run.
func (u testUser) checkRule(t *testing.T) {
	t.Helper()
	const connect, half = "keeper-connect --hosts-file /etc/hosts", "sudo -n /usr/local/bin/kubeshore-root "
	rest := fmt.Sprintf("--listen auto --owner %d --cidr 127.64.0.0/10 --socket %s/kubeshore-1/keeper", u.uid, u.home)
	for _, line := range []string{
		"sudo -n id", half, half + "keeper", half + "run-as-user --owner 1 --program /bin/sh", "sudo -n /usr/local/bin/kubeshore up",
		half + "keeper-connect --hosts-file /etc/shadow " + rest,
		half + connect + " --hosts-file /etc/shadow " + rest,
		half + strings.Replace(connect+" "+rest, strconv.Itoa(u.uid), "0", 1),
		half + connect + " " + strings.Replace(rest, "127.64", "10.64", 1),
		half + connect + " " + strings.Replace(rest, u.home, "/run", 1),
		half + connect + " " + rest + " --program /bin/sh",
	} {
		u.expect(t, line, 1, "a password is required")
	}
	// sudo allows the following: their words are those of the rule.
	u.expect(t, half+"'"+connect+" "+rest+"'", 1, "unknown command")
	u.expect(t, half+strings.Replace(connect, "/etc/hosts", "'/etc/hosts", 1)+" --listen auto'"+strings.TrimPrefix(rest, "--listen auto"), 70, "arguments differ from those of kubeshore up")
	u.expect(t, half+connect+" "+rest, 70, "no such file or directory")
}
