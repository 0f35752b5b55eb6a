package cli

import (
	"context"
	"errors"

	"github.com/sirupsen/logrus"
)

// detachedEnv isn't known here.
const detachedEnv = "KUBESHORE_DETACHED"

func detach(context.Context, upFlags, Streams, *logrus.Logger) error {
	return usage(errors.New("--detach can't be had on Windows; Start-Process -WindowStyle Hidden kubeshore runs it in the background"))
}

func startDetached(ctx context.Context, f upFlags, streams Streams) error {
	return detach(ctx, f, streams, nil)
}
