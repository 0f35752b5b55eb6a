//go:build !windows

package cli

import (
	"context"
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
	"time"
)

// The guard's death is seen where the hosts file can't be watched, too.
func TestRunGuardedUnwatched(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	ran, died := make(chan struct{}), make(chan struct{})
	go func() {
		<-ran
		close(died)
	}()
	err := runGuarded(ctx, func(context.Context) error {
		close(ran)
		return nil
	}, died)
	if !errors.Is(err, errGuardDied) {
		t.Errorf("it says %v", err)
	}
}

// Who is told to end while root's rights are waited for, ends.
func TestSignalWhileOpening(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	folder := t.TempDir()
	config := filepath.Join(folder, "config")
	text := `{apiVersion: v1, kind: Config, clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}], contexts: [{name: c, context: {cluster: c}}], current-context: c}`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(folder)
	f := upFlags{kubeconfig: config, ranges: []string{"127.64.0.0/10"}}
	err := up(t.Context(), f, newLog(io.Discard, formatText, 0), func(ctx context.Context) (machine, error) {
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			return machine{}, err
		}
		select {
		case <-ctx.Done():
			return machine{}, ctx.Err()
		case <-time.After(5 * time.Second):
			return machine{}, errors.New("it goes on waiting")
		}
	})
	if err != nil {
		t.Error(err)
	}
}

// A process of root's believes nobody that it is a keeper's daemon, and one that sudo was
// called for nobody that it is in the background.
func TestRootBelievesNoVariable(t *testing.T) {
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
	t.Setenv(detachedEnv, lookPlain)
	t.Setenv("SUDO_UID", "65534")
	root := os.Geteuid() == 0
	if is := defaults().inBackground(); is == root {
		t.Errorf("in the background: %v", is)
	}
	conn, err := inherited()
	if err != nil || (conn == nil) != root {
		t.Errorf("it takes %v, %v", conn, err)
	}
	if root {
		_ = syscall.Close(fd)
		return
	}
	defer conn.Close()
	if text, ok := os.LookupEnv(keeperEnv); ok {
		t.Errorf("what it starts is told of descriptor %s", text)
	}
}

// Who is named by root has nothing of root's environment, who has called sudo what that
// let through.
func TestEnviron(t *testing.T) {
	given := []string{
		"PATH=/bin", "LC_ALL=C", "TZ=UTC", "https_proxy=http://proxy", "HOME=/root", "MAIL=/m", "SUDO_UID=7",
		"AWS_SECRET_ACCESS_KEY=s", "KUBECONFIG=/root/config", keeperEnv + "=0", detachedEnv + "=plain",
	}
	for apart, want := range map[bool][]string{
		true:  {"PATH=/bin", "LC_ALL=C", "TZ=UTC", "https_proxy=http://proxy"},
		false: {"PATH=/bin", "LC_ALL=C", "TZ=UTC", "https_proxy=http://proxy", "AWS_SECRET_ACCESS_KEY=s", "KUBECONFIG=/root/config"},
	} {
		c := &caller{User: &user.User{Username: "ann", HomeDir: "/home/ann"}, shell: "/bin/sh", apart: apart}
		want = append(want, "HOME=/home/ann", "USER=ann", "LOGNAME=ann", "SHELL=/bin/sh")
		if got := c.environ(given); !slices.Equal(got, want) {
			t.Errorf("apart: %v: %q, want %q", apart, got, want)
		}
	}
}

// A user that root has named has neither root's terminal nor root's stdin, and what it
// says is heard, whatever else it leaves behind.
func TestCommandApart(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become somebody else")
	}
	said, says, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	stdout := os.Stdout
	os.Stdout = says
	c := &caller{User: &user.User{Username: "nobody", HomeDir: "/"}, credential: syscall.Credential{Uid: 65534, Gid: 65534}, apart: true}
	command, err := c.command(nil)
	os.Stdout = stdout
	if err != nil {
		t.Fatal(err)
	}
	command.Path = "/bin/sh"
	command.Args = []string{"sh", "-c", `sleep 60 & echo $!; cat; [ "$(readlink /proc/$$/fd/0)" = /dev/null ] && [ -p /proc/$$/fd/1 ] && [ -p /proc/$$/fd/2 ] && echo apart`}
	command.Dir = "/"
	err = outcome(command.Run())
	if err := errors.Join(err, says.Close()); err != nil {
		t.Error(err)
	}
	text, err := io.ReadAll(said)
	if err != nil || !strings.HasSuffix(string(text), "\napart\n") {
		t.Errorf("it says %q, %v", text, err)
	}
	var left int
	if _, err := fmt.Sscan(string(text), &left); err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(left, syscall.SIGKILL)
}

// A keeper that sudo has started, and that can't go on, is told from a sudo that hasn't.
func TestSudoHasStartedIt(t *testing.T) {
	sudo := filepath.Join(t.TempDir(), "sudo")
	script := fmt.Sprintf("#!/bin/sh\necho 'kubeshore: keeper: no such socket' >&2\nexit %d\n", exitKeeper)
	if err := os.WriteFile(sudo, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := runSudo(t.Context(), sudo, privileges{}, "socket"); err == nil || err.Error() != "keeper: no such socket" {
		t.Error(err)
	}
}

// Where a hosts file is doesn't depend on who writes it, and where.
func TestHostsFileIsAbsolute(t *testing.T) {
	folder := t.TempDir()
	t.Chdir(folder)
	f := defaults()
	f.logFormat, f.hostsFile = formatText, "hosts"
	if err := f.check(newUp(Streams{Out: io.Discard, Err: io.Discard}).Flags()); err != nil {
		t.Fatal(err)
	}
	if got, want := f.privileges().hostsFile, filepath.Join(folder, "hosts"); got != want {
		t.Errorf("it is %s, not %s", got, want)
	}
}
