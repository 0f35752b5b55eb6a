package blocking_test

import (
	"context"
	"errors"
	"testing"

	"github.com/kubeshore/kubeshore/internal/blocking"
)

func TestCall(t *testing.T) {
	failed := errors.New("failed")
	if got, err := blocking.Call(t.Context(), func() (int, error) { return 7, failed }); got != 7 || !errors.Is(err, failed) {
		t.Errorf("got %d, %v, want 7, %v", got, err, failed)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	began, release, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		<-began
		cancel(failed)
	}()
	got, err := blocking.Call(ctx, func() (int, error) {
		defer close(ended)
		close(began)
		<-release
		return 7, nil
	})
	if got != 0 || !errors.Is(err, failed) {
		t.Errorf("a call that blocks: got %d, %v, want 0, %v", got, err, failed)
	}
	close(release)
	<-ended
}
