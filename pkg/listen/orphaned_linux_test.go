package listen_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/pkg/listen"
)

// becomesOrphaned reports whether Orphaned returns true within a few seconds: the
// FIN may arrive before the kernel has removed the socket from its process.
func becomesOrphaned(clients *listen.Clients, conn net.Conn) bool {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		if clients.Orphaned(conn) {
			return true
		}
	}
	return false
}

func TestOrphaned(t *testing.T) {
	clients := newClients(t, listen.ForEveryone)
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.2]:0"} {
		t.Run(address, func(t *testing.T) {
			client, accepted := pair(t, address)
			if clients.Orphaned(accepted) {
				t.Error("the client's socket is open, but Orphaned is true")
			}
			if err := client.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if _, err := accepted.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			if clients.Orphaned(accepted) {
				t.Error("the client has only shut down its sending side, but Orphaned is true")
			}
			_ = client.Close()
			if !becomesOrphaned(clients, accepted) {
				t.Error("the client has closed its socket, but Orphaned is false")
			}
		})
	}
	t.Run("closed immediately", func(t *testing.T) {
		client, accepted := pair(t, "127.0.0.1:0")
		_ = client.Close()
		if !becomesOrphaned(clients, accepted) {
			t.Error("the client has closed its socket, but Orphaned is false")
		}
	})
	t.Run("reset", func(t *testing.T) {
		client, accepted := pair(t, "127.0.0.1:0")
		_, _ = client.SetLinger(0), client.Close()
		if !becomesOrphaned(clients, accepted) {
			t.Error("the client has reset the connection, but Orphaned is false")
		}
	})
	t.Run("not a system socket", func(t *testing.T) {
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		if clients.Orphaned(a) {
			t.Error("got true for a net.Pipe, want false")
		}
	})
}

func TestOrphanedWithEachTaker(t *testing.T) {
	clients := newClients(t, listen.ForEveryone)
	withEachTaker(t, func(t *testing.T, taker listen.Taker) {
		p, at := newPorts(t, taker), freePorts(t, 1)
		mustSet(t, p, at[0])
		client, err := net.Dial("tcp", at[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		accepted, err := p.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer accepted.Close()
		if err := client.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := accepted.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if clients.Orphaned(accepted) {
			t.Error("the client has only shut down its sending side, but Orphaned is true")
		}
		_ = client.Close()
		if !becomesOrphaned(clients, accepted) {
			t.Error("the client has closed its socket, but Orphaned is false")
		}
	})
}

func TestOrphanedAfterClientIsKilled(t *testing.T) {
	clients := newClients(t, listen.ForEveryone)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), clientEnv+"="+l.Addr().String())
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if clients.Orphaned(conn) {
		t.Error("the client is running, but Orphaned is true")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if !becomesOrphaned(clients, conn) {
		t.Error("the client was killed, but Orphaned is false")
	}
}
