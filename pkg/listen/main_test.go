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

// clientOf is the variable that makes the test binary a client that connects,
// ends its sending half, says so, and waits to be killed.
const clientOf = "LISTEN_TEST_CLIENT_OF"

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

// takerOf is the variable that makes the test binary one that takes a port, says so,
// and waits to be killed.
const takerOf = "LISTEN_TEST_TAKER_OF"

func runTaker(text string) {
	at := netip.MustParseAddrPort(text)
	taker, err := listen.Open(context.Background(), listen.ModeLookup)
	if err != nil {
		panic(err)
	}
	if faults := listen.New(taker).Set(context.Background(), []netip.AddrPort{at}); len(faults) > 0 {
		panic(faults)
	}
	_, _ = os.Stdout.WriteString("taken\n")
	select {}
}

func TestMain(m *testing.M) {
	if at := os.Getenv(clientOf); at != "" {
		runClient(at)
		return
	}
	if at := os.Getenv(takerOf); at != "" {
		runTaker(at)
	}
	goleak.VerifyTestMain(m)
}
