//go:build !windows

package launch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/kubeshore/kubeshore/internal/machine"
)

// Root ignores the variable of a keeper's daemon, and under sudo the one of a daemon
// in the background: anybody may have set them.
func TestRootIgnoresVariables(t *testing.T) {
	ours, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	fd, err := syscall.Dup(int(theirs.Fd()))
	if err := errors.Join(err, theirs.Close()); err != nil {
		t.Fatal(err)
	}
	t.Setenv(keeperEnv, strconv.Itoa(fd))
	t.Setenv(detachedEnv, formatPlain)
	t.Setenv("SUDO_UID", "65534")
	root := os.Geteuid() == 0
	if got := (Options{}).IsBackground(); got == root {
		t.Errorf("IsBackground: got %t, want %t", got, !root)
	}
	conn, err := inheritedKeeper()
	if err != nil || (conn == nil) != root {
		t.Errorf("inheritedKeeper: got %v, %v", conn, err)
	}
	if root {
		_ = syscall.Close(fd)
		return
	}
	defer conn.Close()
	if text, ok := os.LookupEnv(keeperEnv); ok {
		t.Errorf("child processes would get %s=%s", keeperEnv, text)
	}
}

// A user that root chose gets nothing of root's environment; the user who invoked sudo
// gets what sudo passed on.
func TestEnviron(t *testing.T) {
	given := []string{
		"PATH=/bin", "LC_ALL=C", "TZ=UTC", "https_proxy=http://proxy", "HOME=/root", "MAIL=/m", "SUDO_UID=7",
		"AWS_SECRET_ACCESS_KEY=s", "KUBECONFIG=/root/config", keeperEnv + "=0", detachedEnv + "=plain",
	}
	for isolated, want := range map[bool][]string{
		true:  {"PATH=/bin", "LC_ALL=C", "TZ=UTC", "https_proxy=http://proxy"},
		false: {"PATH=/bin", "LC_ALL=C", "TZ=UTC", "https_proxy=http://proxy", "AWS_SECRET_ACCESS_KEY=s", "KUBECONFIG=/root/config"},
	} {
		u := &targetUser{User: &user.User{Username: "ann", HomeDir: "/home/ann"}, shell: "/bin/sh", isolated: isolated}
		want = append(want, "HOME=/home/ann", "USER=ann", "LOGNAME=ann", "SHELL=/bin/sh")
		if got := u.environ(given); !slices.Equal(got, want) {
			t.Errorf("isolated %t: got %q, want %q", isolated, got, want)
		}
	}
}

// A user that root chose gets neither root's terminal nor root's stdin. Its output is
// shown, even if a child process keeps the pipe open.
func TestIsolatedCommand(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to run as another user")
	}
	output, stdoutPipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	stdout := os.Stdout
	os.Stdout = stdoutPipe
	u := &targetUser{User: &user.User{Username: "nobody", HomeDir: "/"}, credential: syscall.Credential{Uid: 65534, Gid: 65534}, isolated: true}
	command, err := u.command(nil)
	os.Stdout = stdout
	if err != nil {
		t.Fatal(err)
	}
	command.Path = "/bin/sh"
	command.Args = []string{"sh", "-c", `sleep 60 & echo $!; cat; [ "$(readlink /proc/$$/fd/0)" = /dev/null ] && [ -p /proc/$$/fd/1 ] && [ -p /proc/$$/fd/2 ] && echo isolated`}
	command.Dir = "/"
	err = exitError(command.Run())
	if err := errors.Join(err, stdoutPipe.Close()); err != nil {
		t.Error(err)
	}
	text, err := io.ReadAll(output)
	if err != nil || !strings.HasSuffix(string(text), "\nisolated\n") {
		t.Errorf("output: got %q, %v", text, err)
	}
	var child int
	if _, err := fmt.Sscan(string(text), &child); err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(child, syscall.SIGKILL)
}

// The error of a keeper that sudo started is told apart from an error of sudo.
func TestErrorOfAKeeperStartedBySudo(t *testing.T) {
	sudo := filepath.Join(t.TempDir(), "sudo")
	script := fmt.Sprintf("#!/bin/sh\necho 'keeper: no such socket' >&2\nexit %d\n", KeeperConnectFailed)
	if err := os.WriteFile(sudo, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := runSudo(t.Context(), sudo, machine.Options{}, "socket"); err == nil || err.Error() != "keeper: no such socket" {
		t.Errorf("got %v, want the keeper's error", err)
	}
}
