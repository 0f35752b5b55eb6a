package cli

import (
	"context"
	"errors"

	"github.com/sirupsen/logrus"
)

func detach(context.Context, upFlags, *screen, *logrus.Logger) error {
	return usage(errors.New("--detach can't be had on Windows; Start-Process -WindowStyle Hidden kubeshore runs it in the background"))
}

func (upFlags) inBackground() bool { return false }

func startDetached(ctx context.Context, f upFlags) error {
	return detach(ctx, f, nil, nil)
}
