//go:build !windows

package daemon

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/internal/config"
	"github.com/kubeshore/kubeshore/internal/machine"
	"github.com/kubeshore/kubeshore/internal/term"
)

// A signal ends a daemon that still waits for root's rights.
func TestSignalWhileTheMachineIsOpened(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	o := Options{Config: config.Options{Kubeconfig: writeKubeconfig(t)}}
	t.Chdir(t.TempDir())
	log, _ := term.NewLog(io.Discard, term.Text, 0)
	err := Run(t.Context(), o, log, func(ctx context.Context, _ machine.Options) (machine.Machine, error) {
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			return machine.Machine{}, err
		}
		select {
		case <-ctx.Done():
			return machine.Machine{}, ctx.Err()
		case <-time.After(5 * time.Second):
			return machine.Machine{}, errors.New("the context did not end")
		}
	})
	if err != nil {
		t.Error(err)
	}
}
