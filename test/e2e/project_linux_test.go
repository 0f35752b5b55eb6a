//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// writeProject writes ~/src/kubeshore.yaml and returns its path.
func (u testUser) writeProject(t *testing.T, content string) string {
	t.Helper()
	return u.writeFile(t, "src/kubeshore.yaml", content, 0o644)
}

// projectThatDecides returns a project file with a name outside the cluster's domain,
// which isn't public: a keeper permits it also if it was started before.
func projectThatDecides(ns, name string) string {
	return "namespaces: [" + ns + "]\nservices: {web." + ns + ": {names: [" + name + "]}}\n"
}

// A project file that decides about names needs one confirmation for its content, in
// each way to start kubeshore. Without a terminal it is refused, with the command that
// allows it.
func TestProjectFileIsConfirmedOnce(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := namespaceWithWeb(t)
	ann := newTestUser(t, "ann", "NOPASSWD: ALL")
	before := readHosts(t)
	for i, line := range []string{"../kubeshore up", "../kubeshore up -d", "sudo ../kubeshore up", "sudo ../kubeshore up -d"} {
		t.Run(line, func(t *testing.T) {
			stopAtEnd(t, ann)
			name := string(rune('a'+i)) + ".test"
			path := ann.writeProject(t, projectThatDecides(ns, name))
			line = "bash -c 'cd src && exec " + line + "'"
			const question = "Allow this, until the file changes? [y/N] "
			ann.expect(t, line, 1, "run kubeshore allow "+path)

			refused := ann.inTerminal(t, line, 200)
			refused.waitForLog(t, question)
			refused.press(t, "n\n")
			<-refused.exited
			if log := refused.log.String(); refused.ProcessState.ExitCode() != 1 || !strings.Contains(log, "add the name "+name) || !strings.Contains(log, "kubeshore allow "+path) {
				t.Errorf("refused: got status %d and %s", refused.ProcessState.ExitCode(), log)
			}
			ann.checkCleanedUp(t, before)

			ann.writeProject(t, projectThatDecides(ns, name)+"# changed\n")
			for n, want := range []int{1, 0} { // questions
				term := ann.inTerminal(t, line, 200)
				if n == 0 {
					term.waitForLog(t, question)
					term.press(t, "y\n")
				}
				term.waitForLog(t, "services ready")
				mustGet(t, "http://"+name)
				if log := term.log.String(); strings.Count(log, question) != want {
					t.Errorf("start %d: got %s\nwant %d questions", n+1, log, want)
				}
				ann.expect(t, "./kubeshore down", 0, "stopped and cleaned up")
				<-term.exited
				ann.checkCleanedUp(t, before)
			}
		})
	}
	t.Run("changed during a run", func(t *testing.T) { testProjectFileChanges(t, ann, ns) })
	t.Run("of others", func(t *testing.T) { testProjectFilesOfOthers(t, ann, ns) })
}

// stopAtEnd stops a kubeshore that a failed test has left.
func stopAtEnd(t *testing.T, u testUser) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			u.run(t, "./kubeshore down")
		}
	})
}

// A change of a confirmed file needs another confirmation, which the running kubeshore
// follows.
func testProjectFileChanges(t *testing.T, ann testUser, ns string) {
	stopAtEnd(t, ann)
	path := ann.writeProject(t, projectThatDecides(ns, "first.test"))
	ann.expect(t, "./kubeshore allow "+path, 0, "add the name first.test")
	d := ann.startReady(t, "bash -c 'cd src && exec ../kubeshore up'")
	mustGet(t, "http://first.test")
	ann.writeProject(t, projectThatDecides(ns, "second.test"))
	d.waitForLog(t, "needs a confirmation to add the name second.test")
	if _, err := resolve("second.test"); err == nil {
		t.Error("second.test resolves before it is confirmed")
	}
	mustGet(t, "http://first.test")
	ann.expect(t, "./kubeshore ps", 0, "needs a confirmation")
	ann.expect(t, "./kubeshore allow "+path, 0, "add the name second.test")
	d.waitForLog(t, "project file "+path+" changed")
	eventually(t, "the name resolves", func() error {
		_, err := resolve("second.test")
		return err
	})
	ann.expect(t, "./kubeshore down", 0, "stopped and cleaned up")
	<-d.exited
	ann.waitForCleanup(t, d)
}

// A project file that others could have made is refused, whatever it says. sudo
// doesn't change whose it has to be.
func testProjectFilesOfOthers(t *testing.T, ann testUser, ns string) {
	before := readHosts(t)
	path := ann.writeProject(t, "namespaces: ["+ns+"]\n")
	elsewhere := ann.writeFile(t, "elsewhere.yaml", "namespaces: ["+ns+"]\n", 0o644)
	other := filepath.Join(t.TempDir(), "kubeshore.yaml")
	run := func(t *testing.T, args ...string) {
		t.Helper()
		runCommand(t, args[0], args[1:]...)
	}
	for name, c := range map[string]struct {
		make func(*testing.T)
		want string
	}{
		"another owner":   {func(t *testing.T) { t.Helper(); run(t, "chown", "nobody", path) }, "belongs to another user"},
		"writable by all": {func(t *testing.T) { t.Helper(); run(t, "chmod", "666", path) }, "can be changed by other users"},
		"a shared group":  {func(t *testing.T) { t.Helper(); run(t, "chgrp", "developers", path); run(t, "chmod", "664", path) }, "can be changed by other users"},
		"a link of another user": {func(t *testing.T) {
			t.Helper()
			run(t, "ln", "-sf", elsewhere, path)
			run(t, "chown", "-h", "nobody", path)
		}, "belongs to another user"},
		"a link to another user's file": {func(t *testing.T) {
			t.Helper()
			run(t, "install", "-o", "nobody", "-m", "644", elsewhere, other)
			run(t, "chmod", "755", filepath.Dir(other), filepath.Dir(filepath.Dir(other)))
			run(t, "ln", "-sf", other, path)
			run(t, "chown", "-h", "ann", path)
		}, "belongs to another user"},
		"a pipe": {func(t *testing.T) {
			t.Helper()
			run(t, "rm", path)
			run(t, "mkfifo", path)
			run(t, "chown", "ann", path)
		}, "is not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, "rm", "-f", path)
			ann.writeProject(t, "namespaces: ["+ns+"]\n")
			c.make(t)
			for _, line := range []string{"../kubeshore up", "sudo ../kubeshore up", "../kubeshore up -d"} {
				ann.expect(t, "bash -c 'cd src && exec "+line+"'", 1, c.want)
			}
			ann.checkCleanedUp(t, before)
		})
	}
	t.Run("a folder that all can write", func(t *testing.T) {
		run(t, "rm", "-f", path)
		ann.writeProject(t, projectThatDecides(ns, "folder.test"))
		run(t, "chmod", "777", filepath.Dir(path))
		ann.expect(t, "./kubeshore allow "+path, 0, "add the name folder.test")
		run(t, "rm", path) // as another user may there
		run(t, "install", "-o", "nobody", "-m", "644", elsewhere, path)
		ann.expect(t, "bash -c 'cd src && exec ../kubeshore up'", 1, "belongs to another user")
		ann.checkCleanedUp(t, before)
	})
}

// kubeshore starts without a project file in a directory that was deleted or that the
// user can't read, also by way of root, who can.
func TestUnreadableWorkingDirectory(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	ns := namespaceWithWeb(t)
	ann := newTestUser(t, "ann", "NOPASSWD: ALL")
	for where, enter := range map[string]string{
		"deleted":      "mkdir -p gone && cd gone && rmdir ../gone",
		"mode 000":     "mkdir -p closed && cd closed && chmod 000 .",
		"parent's 000": "mkdir -p above/below && cd above/below && chmod 000 ..",
	} {
		for _, line := range []string{"kubeshore up", "sudo kubeshore up"} {
			t.Run(where+"/"+line, func(t *testing.T) {
				line = strings.Replace(line, "kubeshore", filepath.Join(ann.home, "kubeshore"), 1)
				d := ann.startReady(t, "bash -c '"+enter+" && exec "+line+" -v -n "+ns+"'")
				mustGet(t, "http://web."+ns)
				if !strings.Contains(d.log.String(), "continuing without a project file: ") {
					t.Errorf("the log doesn't mention the project file:\n%s", d.log.String())
				}
				ann.expect(t, "./kubeshore ps", 0, "web."+ns)
				if err := syscall.Kill(ann.processes(t).daemon, syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				<-d.exited
				ann.waitForCleanup(t, d)
				for _, dir := range []string{"closed", "above"} {
					_ = os.Chmod(filepath.Join(ann.home, dir), 0o755)
				}
			})
		}
	}
}
