//go:build !windows

package machine

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/pkg/hosts"
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
