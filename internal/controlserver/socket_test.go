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

// shortFolder returns a folder whose path is short, as a socket's must be.
func shortFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return folder
}

func TestListen(t *testing.T) {
	d := newFakeDaemon()
	c, _, folder := serve(t, d)
	if _, err := Listen(t.Context(), folder); !errors.Is(err, ErrAlreadyRunning) {
		t.Errorf("a second one: %v", err)
	}
	if info, err := os.Stat(control.SocketPath(folder)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
	t.Run("stale", func(t *testing.T) {
		stale := shortFolder(t)
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: control.SocketPath(stale), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		_ = l.Close()
		if _, err := control.NewClient(stale).Status(t.Context()); !errors.Is(err, control.ErrNotRunning) {
			t.Errorf("the client says %v", err)
		}
		again, err := Listen(t.Context(), stale)
		if err != nil {
			t.Fatal(err)
		}
		_ = again.Close()
	})
}

// Of many that start at once, one listens.
func TestListenAtOnce(t *testing.T) {
	folder := shortFolder(t)
	var all sync.WaitGroup
	listeners := make(chan net.Listener, 20)
	for range cap(listeners) {
		all.Go(func() {
			l, err := Listen(t.Context(), folder)
			if err == nil {
				listeners <- l
			} else if !errors.Is(err, ErrAlreadyRunning) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(listeners) != 1 {
		t.Errorf("%d listen", len(listeners))
	}
	close(listeners)
	for l := range listeners {
		_ = l.Close()
	}
}

// One that can't look whether another listens leaves its socket alone.
func TestListenUncertain(t *testing.T) {
	c, _, folder := serve(t, newFakeDaemon())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Listen(ctx, folder); err == nil {
		t.Error("it listens")
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

// Another one that has the lock, and does nothing, isn't waited for without end.
func TestListenBehindAStoppedOne(t *testing.T) {
	folder := shortFolder(t)
	unlock, err := lockedfile.MutexAt(control.SocketPath(folder) + ".lock").Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if l, err := Listen(ctx, folder); err == nil || !strings.Contains(err.Error(), "it may be stopped") {
		t.Errorf("it gets %v, %v", l, err)
	}
}

func TestListenTooLong(t *testing.T) {
	short := shortFolder(t)
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
		t.Errorf("it listens at %s", got)
	}
	_ = l.Close()
}

// A socket whose folder is emptied is there again, or in the next folder; another's stays,
// whatever becomes of this one.
func TestSocketIsKept(t *testing.T) {
	base := shortFolder(t)
	folders := []string{filepath.Join(base, "run", "k"), filepath.Join(base, "state")}
	l, err := Listen(t.Context(), folders...)
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
	var gone atomic.Int32 // folders, for good
	said := make(chan string, 99)
	serving.Go(func() {
		where := func() ([]string, error) { return folders[gone.Load():], nil }
		l.KeepReachable(ctx, time.Millisecond, where, func(path string, err error) {
			if err != nil {
				path = err.Error()
			}
			said <- path
		})
	})
	c := control.NewClient(folders...)
	answers := func(when string) {
		t.Helper()
		if status, err := c.Status(t.Context()); err != nil || status.PID != 7 {
			t.Errorf("%s: %v", when, err)
		}
	}
	answers("at first")
	if err := os.RemoveAll(filepath.Join(base, "run")); err != nil {
		t.Fatal(err)
	}
	if got := <-said; got != control.SocketPath(folders[0]) {
		t.Errorf("without its folder: %s", got)
	}
	answers("without its folder")

	gone.Store(1)
	if err := os.RemoveAll(filepath.Join(base, "run")); err != nil {
		t.Fatal(err)
	}
	if got := <-said; got != control.SocketPath(folders[1]) {
		t.Errorf("where there can be none: %s", got)
	}
	if _, err := control.NewClient(folders[1]).Status(t.Context()); err != nil {
		t.Error(err)
	}

	other, folder := listenInTempFolder(t)
	defer other.Close()
	if err := os.Rename(control.SocketPath(folder), control.SocketPath(folders[1])); err != nil {
		t.Fatal(err)
	}
	if got := <-said; !strings.Contains(got, ErrAlreadyRunning.Error()) {
		t.Errorf("beside another: %s", got)
	}
	cancel()
	serving.Wait()
	if left, err := os.Lstat(control.SocketPath(folders[1])); err != nil || !os.SameFile(left, other.file.info) {
		t.Errorf("the other's socket is gone: %v", err)
	}
}
