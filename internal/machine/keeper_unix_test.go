//go:build !windows

package machine

import (
	"context"
	"errors"
	"testing"
	"time"
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
