// Command peer serves the ports of package peer on every address until it gets
// SIGINT or SIGTERM. With -after it starts to listen only after that time. It
// is the program of the image kubeshore.test/peer:1.
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
	after := flag.Duration("after", 0, "delay before the ports are opened")
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
