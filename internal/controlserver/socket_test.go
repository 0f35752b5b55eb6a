package controlserver

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/lockedfile"

	"github.com/kubeshore/kubeshore/pkg/control"
)

// shortDir returns a temporary directory whose path is short enough for a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestListenAllowsOneSocketPerDirectory(t *testing.T) {
	d := newFakeDaemon()
	c, _, dir := serve(t, d)
	if _, err := Listen(t.Context(), dir); !errors.Is(err, ErrAlreadyRunning) {
		t.Errorf("second Listen: got error %v, want %v", err, ErrAlreadyRunning)
	}
	if info, err := os.Stat(control.SocketPath(dir)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v, %v; want 0600", info.Mode(), err)
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
	t.Run("leftover", func(t *testing.T) {
		leftover := shortDir(t)
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: control.SocketPath(leftover), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		_ = l.Close()
		if _, err := control.NewClient(leftover).Status(t.Context()); !errors.Is(err, control.ErrNotRunning) {
			t.Errorf("client on a leftover socket: got error %v, want %v", err, control.ErrNotRunning)
		}
		again, err := Listen(t.Context(), leftover)
		if err != nil {
			t.Fatal(err)
		}
		_ = again.Close()
	})
}

func TestConcurrentListenHasOneWinner(t *testing.T) {
	dir := shortDir(t)
	var all sync.WaitGroup
	listeners := make(chan net.Listener, 20)
	for range cap(listeners) {
		all.Go(func() {
			l, err := Listen(t.Context(), dir)
			if err == nil {
				listeners <- l
			} else if !errors.Is(err, ErrAlreadyRunning) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(listeners) != 1 {
		t.Errorf("got %d listeners, want 1", len(listeners))
	}
	close(listeners)
	for l := range listeners {
		_ = l.Close()
	}
}

// A failed check for another process must not remove that process's socket.
func TestCancelledListenKeepsTheSocket(t *testing.T) {
	c, _, dir := serve(t, newFakeDaemon())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Listen(ctx, dir); err == nil {
		t.Error("Listen with a canceled context succeeded")
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestListenGivesUpWaitingForTheLock(t *testing.T) {
	dir := shortDir(t)
	unlock, err := lockedfile.MutexAt(control.SocketPath(dir) + ".lock").Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if l, err := Listen(ctx, dir); err == nil || !strings.Contains(err.Error(), "may be suspended") {
		t.Errorf("got %v, %v; want an error that another process may be suspended", l, err)
	}
}

func TestListenSkipsLongPaths(t *testing.T) {
	short := shortDir(t)
	long := filepath.Join(short, strings.Repeat("x", 100))
	if _, err := Listen(t.Context(), long); err == nil || !strings.Contains(err.Error(), "is too long") {
		t.Error(err)
	}
	if _, err := control.NewClient(long).Status(t.Context()); !errors.Is(err, control.ErrNotRunning) {
		t.Error(err)
	}
	l, err := Listen(t.Context(), long, short)
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Addr().String(); got != control.SocketPath(short) {
		t.Errorf("got socket %s, want the one in the short directory", got)
	}
	_ = l.Close()
}

// A removed socket is recreated in its directory, or in the next one, but another process's
// socket is never replaced.
func TestRemovedSocketIsRecreated(t *testing.T) {
	base := shortDir(t)
	dirs := []string{filepath.Join(base, "run", "k"), filepath.Join(base, "state")}
	l, err := Listen(t.Context(), dirs...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var serving sync.WaitGroup
	s := &Server{Version: "v1", Daemon: newFakeDaemon(), Journal: new(Journal)}
	serving.Go(func() {
		if err := s.Serve(ctx, l); err != nil {
			t.Error(err)
		}
	})
	var unusable atomic.Int32 // the number of directories that are no longer usable
	reports := make(chan string, 99)
	serving.Go(func() {
		usable := func() ([]string, error) { return dirs[unusable.Load():], nil }
		l.KeepReachable(ctx, time.Millisecond, usable, func(path string, err error) {
			if err != nil {
				path = err.Error()
			}
			reports <- path
		})
	})
	c := control.NewClient(dirs...)
	responds := func(when string) {
		t.Helper()
		if status, err := c.Status(t.Context()); err != nil || status.PID != 7 {
			t.Errorf("%s: %v", when, err)
		}
	}
	responds("at first")
	if err := os.RemoveAll(filepath.Join(base, "run")); err != nil {
		t.Fatal(err)
	}
	if got := <-reports; got != control.SocketPath(dirs[0]) {
		t.Errorf("after its directory was removed: got %s", got)
	}
	responds("after its directory was removed")

	unusable.Store(1)
	if err := os.RemoveAll(filepath.Join(base, "run")); err != nil {
		t.Fatal(err)
	}
	if got := <-reports; got != control.SocketPath(dirs[1]) {
		t.Errorf("after its directory became unusable: got %s", got)
	}
	if _, err := control.NewClient(dirs[1]).Status(t.Context()); err != nil {
		t.Error(err)
	}

	other, dir := listenInTempDir(t)
	defer other.Close()
	if err := os.Rename(control.SocketPath(dir), control.SocketPath(dirs[1])); err != nil {
		t.Fatal(err)
	}
	if got := <-reports; !strings.Contains(got, ErrAlreadyRunning.Error()) {
		t.Errorf("with another socket in its place: got %s, want %v", got, ErrAlreadyRunning)
	}
	cancel()
	serving.Wait()
	if left, err := os.Lstat(control.SocketPath(dirs[1])); err != nil || !os.SameFile(left, other.file.info) {
		t.Errorf("the other socket is missing: %v", err)
	}
}
