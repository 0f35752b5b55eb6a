//go:build !windows

package machine

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/pkg/hosts"
	"github.com/kubeshore/kubeshore/pkg/listen"
)

// The death of the guard ends a run even if the hosts file can't be watched.
func TestGuardDiesWithoutAWatch(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	ran, died := make(chan struct{}), make(chan struct{})
	go func() {
		<-ran
		close(died)
	}()
	err := runWithGuard(ctx, func(context.Context) error {
		close(ran)
		return nil
	}, died)
	if !errors.Is(err, ErrGuardDied) {
		t.Errorf("got %v, want %v", err, ErrGuardDied)
	}
}

// Root writes no hosts file whose directory another user can change, and creates none of
// its own files there.
func TestRootNeedsHostsFileOfItsOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := filepath.Join(t.TempDir(), "home")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	o := Options{HostsFile: filepath.Join(dir, "hosts"), Owner: "65534", Listen: listen.ModeEach}
	log := logrus.New()
	log.SetOutput(io.Discard)
	for name, open := range map[string]func(context.Context, Options, logrus.FieldLogger) (Machine, error){"OpenOwn": OpenOwn, "OpenRootless": OpenRootless} {
		if _, err := open(t.Context(), o, log); err == nil || !strings.Contains(err.Error(), dir+" belongs to user 65534") || failure.Hint(err) == "" {
			t.Errorf("%s: got %v, want an error that names the directory's owner", name, err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("got %v, %v; want an empty directory", entries, err)
	}
	if err := os.Chown(dir, 0, 0); err != nil {
		t.Fatal(err)
	}
	m, err := OpenOwn(t.Context(), o, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// The guard of a dead keeper gets time to remove the names even if the daemon is
// already shutting down.
func TestNamesLeftWaitsForTheGuard(t *testing.T) {
	o := Options{HostsFile: filepath.Join(t.TempDir(), "hosts"), Owner: "1000"}
	if err := os.WriteFile(o.HostsFile, []byte("127.0.0.1 localhost\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := hosts.Open(o.HostsFile, o.Owner)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Set(t.Context(), map[netip.Addr][]string{netip.MustParseAddr("127.64.0.1"): {"web.shop"}}); err != nil {
		t.Fatal(err)
	}
	cleaned := make(chan error, 1)
	time.AfterFunc(5*leftNamesInterval, func() {
		_, err := file.Set(context.Background(), nil)
		cleaned <- errors.Join(err, file.Close())
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if areNamesLeft(ctx, o) {
		t.Error("got true although the names are removed within the timeout, want false")
	}
	if err := <-cleaned; err != nil {
		t.Error(err)
	}
}
