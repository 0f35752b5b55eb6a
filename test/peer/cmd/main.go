// Command peer serves package peer's behaviours on their ports, on every
// address, until SIGINT or SIGTERM. It is the program of the image
// kubeshore.test/peer:1.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/kubeshore/kubeshore/test/peer"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	listeners := make(map[uint16]net.Listener)
	var config net.ListenConfig
	for _, port := range peer.Ports() {
		l, err := config.Listen(ctx, "tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			for _, open := range listeners {
				err = errors.Join(err, open.Close())
			}
			return err
		}
		listeners[port] = l
	}
	return peer.Serve(ctx, listeners)
}
