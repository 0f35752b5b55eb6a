//go:build linux || darwin

package keeper

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// guardEnv has the test's own program be a guard: it has the file that restoring removes.
const guardEnv = "KUBESHORE_TEST_GUARD"

func guardForTest() {
	if err := Watch(os.NewFile(3, "keeper"), func() error { return os.Remove(os.Getenv(guardEnv)) }); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// startGuard starts a guard, and returns it and its process, and whether the machine is
// as it was.
func startGuard(t *testing.T) (*Guard, *os.Process, func() bool) {
	t.Helper()
	left := filepath.Join(t.TempDir(), "left")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	command := guardOf(t, left)
	g, err := StartGuard(command)
	if err != nil {
		t.Fatal(err)
	}
	return g, command.Process, func() bool {
		_, err := os.Stat(left)
		return errors.Is(err, os.ErrNotExist)
	}
}

// A guard does nothing where its keeper has put the machine back, and else tries it; what
// it can't do it says. One that has died says so by that, and by nothing else.
func TestGuard(t *testing.T) {
	t.Run("nothing is left", func(t *testing.T) {
		g, _, restored := startGuard(t)
		if err := g.End(true); err != nil || restored() {
			t.Errorf("%v; restored: %v", err, restored())
		}
	})
	t.Run("something is left", func(t *testing.T) {
		g, _, restored := startGuard(t)
		if err := g.End(false); err != nil || !restored() {
			t.Errorf("%v; restored: %v", err, restored())
		}
	})
	t.Run("it can't put it back either", func(t *testing.T) {
		g, err := StartGuard(guardOf(t, filepath.Join(t.TempDir(), "nothing")))
		if err != nil {
			t.Fatal(err)
		}
		if err := g.End(false); err == nil {
			t.Error("nobody hears of it")
		}
	})
	t.Run("it has died", func(t *testing.T) {
		g, process, restored := startGuard(t)
		if err := process.Kill(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-g.Died():
		case <-time.After(10 * time.Second):
			t.Fatal("nobody hears of it")
		}
		if err := g.End(true); err != nil || restored() {
			t.Errorf("%v; restored: %v", err, restored())
		}
	})
}

// guardOf returns what is a guard that removes a file.
func guardOf(t *testing.T, left string) *exec.Cmd {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), guardEnv+"="+left)
	return command
}
