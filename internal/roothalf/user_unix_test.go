//go:build !windows

package roothalf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A user that root chose gets nothing of root's environment; the user who invoked sudo
// gets what sudo passed on.
func TestEnviron(t *testing.T) {
	given := []string{
		"PATH=/bin", "LC_ALL=C", "TZ=UTC", "https_proxy=http://proxy", "HOME=/root", "MAIL=/m", "SUDO_UID=7",
		"AWS_SECRET_ACCESS_KEY=s", "KUBECONFIG=/root/config", KeeperEnv + "=0", "KUBESHORE_DETACHED" + "=plain",
	}
	for isolated, want := range map[bool][]string{
		true:  {"PATH=/bin", "LC_ALL=C", "TZ=UTC", "https_proxy=http://proxy"},
		false: {"PATH=/bin", "LC_ALL=C", "TZ=UTC", "https_proxy=http://proxy", "AWS_SECRET_ACCESS_KEY=s", "KUBECONFIG=/root/config"},
	} {
		u := &TargetUser{User: &user.User{Username: "ann", HomeDir: "/home/ann"}, shell: "/bin/sh", Isolated: isolated}
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
	u := &TargetUser{User: &user.User{Username: "nobody", HomeDir: "/"}, credential: syscall.Credential{Uid: 65534, Gid: 65534}, Isolated: true}
	command := u.command("/bin/sh", nil)
	os.Stdout = stdout
	command.Args = []string{"sh", "-c", `sleep 60 & echo $!; cat; [ "$(readlink /proc/$$/fd/0)" = /dev/null ] && [ -p /proc/$$/fd/1 ] && [ -p /proc/$$/fd/2 ] && echo isolated`}
	command.Dir = "/"
	err = ExitError(command.Run())
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
