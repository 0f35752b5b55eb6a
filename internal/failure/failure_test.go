package failure

import (
	"errors"
	"fmt"
	"testing"
)

func TestMessageHasTheHintInALineOfItsOwn(t *testing.T) {
	cause := errors.New("open /etc/hosts: permission denied")
	err := fmt.Errorf("hosts file: %w", WithHint(cause, "run sudo kubeshore up"))
	if got, want := Message(err), "kubeshore: hosts file: open /etc/hosts: permission denied\nhint: run sudo kubeshore up\n"; got != want {
		t.Errorf("Message: got %q, want %q", got, want)
	}
	if got, want := Line(err), "hosts file: open /etc/hosts: permission denied; run sudo kubeshore up"; got != want {
		t.Errorf("Line: got %q, want %q", got, want)
	}
	if !errors.Is(err, cause) {
		t.Error("the cause is lost")
	}
}

func TestMessageOfSeveralErrorsIsOneLine(t *testing.T) {
	err := errors.Join(errors.New("first"), errors.New("second"))
	if got, want := Message(err), "kubeshore: first; second\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMarks(t *testing.T) {
	plain := errors.New("fault")
	if Usage(nil) != nil || IsUsage(plain) || IsReported(plain) || Hint(plain) != "" {
		t.Error("an unmarked error is marked")
	}
	if err := fmt.Errorf("up: %w", Usage(plain)); !IsUsage(err) || !errors.Is(err, plain) {
		t.Errorf("%v: got IsUsage %v, want true", err, IsUsage(err))
	}
	if err := fmt.Errorf("up: %w", ExitStatus(3)); !IsReported(err) {
		t.Errorf("%v: got IsReported %v, want true", err, IsReported(err))
	}
}
