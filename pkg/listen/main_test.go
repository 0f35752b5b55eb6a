package listen_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/kubeshore/kubeshore/pkg/listen"
)

// clientEnv makes the test binary a client: the value is the address to connect to.
const clientEnv = "LISTEN_TEST_CLIENT"

// runClient connects, shuts down its sending side, reports that, and waits to be killed.
func runClient(at string) {
	conn, err := net.Dial("tcp", at)
	if err == nil {
		err = conn.(*net.TCPConn).CloseWrite()
	}
	if err != nil {
		panic(err)
	}
	_, _ = os.Stdout.WriteString("connected\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// listenerEnv makes the test binary a process that listens: the value is the address and port.
const listenerEnv = "LISTEN_TEST_LISTENER"

// runListener listens on a port, reports that, and waits to be killed.
func runListener(text string) {
	at := netip.MustParseAddrPort(text)
	taker, err := listen.Open(context.Background(), listen.ModeLookup)
	if err != nil {
		panic(err)
	}
	if portErrors := listen.New(taker).Set(context.Background(), []netip.AddrPort{at}); len(portErrors) > 0 {
		panic(portErrors)
	}
	_, _ = os.Stdout.WriteString("listening\n")
	select {}
}

func TestMain(m *testing.M) {
	if at := os.Getenv(clientEnv); at != "" {
		runClient(at)
		return
	}
	if at := os.Getenv(listenerEnv); at != "" {
		runListener(at)
	}
	goleak.VerifyTestMain(m)
}
