package launch

import (
	"context"
	"errors"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/internal/daemon"
	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/machine"
	"github.com/kubeshore/kubeshore/internal/term"
)

// Foreground runs a daemon with the rights of the process, which an administrator
// has to start.
func Foreground(ctx context.Context, o Options, d daemon.Options, log *logrus.Logger) error {
	if o.User != "" {
		return failure.Usage(errors.New("--user is not available on Windows"))
	}
	return daemon.Run(ctx, d, log, func(ctx context.Context, with machine.Options) (machine.Machine, error) {
		if o.Rootless {
			return machine.OpenRootless(ctx, with, log)
		}
		return machine.OpenOwn(ctx, with, log)
	})
}

var errNoDetach = failure.Usage(failure.WithHint(errors.New("--detach is not available on Windows"),
	"run it hidden with: Start-Process -WindowStyle Hidden kubeshore -ArgumentList up"))

// Detach fails: there is no background mode on Windows yet.
func Detach(context.Context, Options, daemon.Options, *term.AsyncWriter, *term.LogView, *logrus.Logger) error {
	return errNoDetach
}

// IsBackground reports whether this process is a daemon that Detach started.
func (Options) IsBackground() bool { return false }

// Background fails as Detach does.
func Background(context.Context, Options, daemon.Options) error { return errNoDetach }

// SudoersLine fails: there is no sudo with sudoers(5) on Windows.
func SudoersLine(string, []string) (string, error) {
	return "", errors.New("there is no sudoers file on Windows")
}
