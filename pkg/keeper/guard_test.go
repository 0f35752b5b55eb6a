//go:build linux || darwin

package keeper

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// guardEnv makes the test binary a guard. Its value is a file, which the guard
// removes to restore the machine.
const guardEnv = "KUBESHORE_TEST_GUARD"

func runGuard() {
	if err := Watch(os.NewFile(3, "keeper"), func() error { return os.Remove(os.Getenv(guardEnv)) }, func() {}); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// startGuard starts a guard. It returns the guard, its process, and a function that
// reports whether the guard has restored the machine.
func startGuard(t *testing.T) (*Guard, *os.Process, func() bool) {
	t.Helper()
	leftover := filepath.Join(t.TempDir(), "leftover")
	if err := os.WriteFile(leftover, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	command := guardCommand(t, leftover)
	g, err := StartGuard(command)
	if err != nil {
		t.Fatal(err)
	}
	return g, command.Process, func() bool {
		_, err := os.Stat(leftover)
		return errors.Is(err, os.ErrNotExist)
	}
}

func TestGuard(t *testing.T) {
	t.Run("restored by the keeper", func(t *testing.T) {
		g, _, restored := startGuard(t)
		if err := g.End(true); err != nil || restored() {
			t.Errorf("got error %v, restored by the guard: %v, want neither", err, restored())
		}
	})
	t.Run("restored by the guard", func(t *testing.T) {
		g, _, restored := startGuard(t)
		if err := g.End(false); err != nil || !restored() {
			t.Errorf("got error %v, restored by the guard: %v, want no error and true", err, restored())
		}
	})
	t.Run("guard fails", func(t *testing.T) {
		g, err := StartGuard(guardCommand(t, filepath.Join(t.TempDir(), "missing")))
		if err != nil {
			t.Fatal(err)
		}
		if err := g.End(false); err == nil {
			t.Error("End returned no error")
		}
	})
	t.Run("guard dies", func(t *testing.T) {
		g, process, restored := startGuard(t)
		if err := process.Kill(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-g.Died():
		case <-time.After(10 * time.Second):
			t.Fatal("Died isn't closed 10s after the guard was killed")
		}
		if err := g.End(true); err != nil || restored() {
			t.Errorf("got error %v, restored by the guard: %v, want neither", err, restored())
		}
	})
}

// guardCommand returns the command for a guard that removes a file.
func guardCommand(t *testing.T, leftover string) *exec.Cmd {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), guardEnv+"="+leftover)
	return command
}

// A guard flushes for its keeper, once more for all requests during a flush, and
// finishes that before it exits. It restores the machine without waiting for a flush.
func TestGuardFlushes(t *testing.T) {
	for _, message := range []byte{restoredMessage, 0} { // 0: the keeper exits
		read, write := io.Pipe()
		started, finish := make(chan struct{}), make(chan struct{})
		restored := make(chan struct{})
		flushes := 0
		ended := make(chan error, 1)
		go func() {
			ended <- Watch(read, func() error { close(restored); return nil }, func() {
				if flushes++; flushes == 1 {
					close(started)
					<-finish
				}
			})
		}()
		send := func(bytes ...byte) {
			t.Helper()
			if _, err := write.Write(bytes); err != nil {
				t.Fatal(err)
			}
		}
		send(flushMessage)
		<-started
		send(flushMessage, flushMessage, flushMessage)
		if message == 0 {
			_ = write.Close()
			<-restored
		} else {
			send(message)
		}
		close(finish)
		if err := <-ended; err != nil || flushes != 2 {
			t.Errorf("got error %v and %d flushes, want none and 2", err, flushes)
		}
	}
}
