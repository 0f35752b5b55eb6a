package listen_test

import (
	"io"
	"net"
	"os"
	"testing"

	"go.uber.org/goleak"
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

func TestMain(m *testing.M) {
	if at := os.Getenv(clientOf); at != "" {
		runClient(at)
		return
	}
	goleak.VerifyTestMain(m)
}
