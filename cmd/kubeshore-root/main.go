//go:build !windows

// Command kubeshore-root is the part of kubeshore that runs as root: the keeper, its
// guard, and the commands that start them. kubeshore runs it; people don't.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/roothalf"
)

func main() {
	err := roothalf.Main(context.Background(), os.Args[1:])
	switch status := failure.ExitStatus(0); {
	case errors.As(err, &status):
		os.Exit(int(status))
	case err != nil:
		fmt.Fprint(os.Stderr, failure.Message(err))
		os.Exit(int(failure.Failed))
	}
}
