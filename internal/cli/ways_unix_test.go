//go:build !windows

package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
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
