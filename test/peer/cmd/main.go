// Command peer serves package peer's behaviours on their ports, on every
// address, until SIGINT or SIGTERM; with -after, only once that time has
// passed. It is the program of the image kubeshore.test/peer:1.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/kubeshore/kubeshore/test/peer"
)

func main() {
	after := flag.Duration("after", 0, "listen only after this time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *after)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, after time.Duration) error {
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(after):
	}
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
