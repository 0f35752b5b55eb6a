//go:build !windows

package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/kubeshore/kubeshore/internal/roothalf"
)

// Root ignores the variable of a keeper's daemon, and under sudo the one of a daemon
// in the background: anybody may have set them.
func TestRootIgnoresVariables(t *testing.T) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fds[0])
	fd := fds[1]
	t.Setenv(roothalf.KeeperEnv, strconv.Itoa(fd))
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
	if text, ok := os.LookupEnv(roothalf.KeeperEnv); ok {
		t.Errorf("child processes would get %s=%s", roothalf.KeeperEnv, text)
	}
}

// The error of a keeper that sudo started is told apart from an error of sudo.
func TestErrorOfAKeeperStartedBySudo(t *testing.T) {
	sudo := filepath.Join(t.TempDir(), "sudo")
	script := fmt.Sprintf("#!/bin/sh\necho 'keeper: no such socket' >&2\nexit %d\n", roothalf.KeeperConnectFailed)
	if err := os.WriteFile(sudo, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := runSudo(t.Context(), sudo, nil); err == nil || err.Error() != "keeper: no such socket" {
		t.Errorf("got %v, want the keeper's error", err)
	}
}
