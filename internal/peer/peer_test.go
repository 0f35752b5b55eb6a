//go:build linux || darwin

package peer_test

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/kubeshore/kubeshore/internal/peer"
)

func TestPeerIsThisProcess(t *testing.T) {
	address := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"}
	listener, err := net.ListenUnix("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.DialUnix("unix", nil, address)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := listener.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for end, conn := range map[string]*net.UnixConn{"client": client, "server": server} {
		if got, err := peer.UID(conn); got != os.Geteuid() || err != nil {
			t.Errorf("%s: got peer UID %d (%v), want %d", end, got, err, os.Geteuid())
		}
		if got, err := peer.PID(conn); got != os.Getpid() || err != nil {
			t.Errorf("%s: got peer PID %d (%v), want %d", end, got, err, os.Getpid())
		}
	}
}

func TestInvalidConnection(t *testing.T) {
	conn := new(net.UnixConn)
	if _, err := peer.UID(conn); err == nil {
		t.Error("UID succeeded, want an error")
	}
	if _, err := peer.PID(conn); err == nil {
		t.Error("PID succeeded, want an error")
	}
}
