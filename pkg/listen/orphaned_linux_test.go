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

// pair returns both ends of a connection over the loopback address given.
func pair(t *testing.T, address string) (client, accepted *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = conn.Close(), other.Close() })
	return conn.(*net.TCPConn), other.(*net.TCPConn)
}

// orphaned waits a moment until the client's socket is: the end of its bytes
// may be seen before the kernel has taken the socket from its process.
func orphaned(conn net.Conn) bool {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		if listen.Orphaned(conn) {
			return true
		}
	}
	return false
}

func TestOrphaned(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.2]:0"} {
		t.Run(address, func(t *testing.T) {
			client, accepted := pair(t, address)
			if listen.Orphaned(accepted) {
				t.Error("an open client counts as gone")
			}
			if err := client.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if _, err := accepted.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			if listen.Orphaned(accepted) {
				t.Error("a client that has ended its sending half counts as gone")
			}
			_ = client.Close()
			if !orphaned(accepted) {
				t.Error("a closed client counts as there")
			}
		})
	}
	t.Run("closed at once", func(t *testing.T) {
		client, accepted := pair(t, "127.0.0.1:0")
		_ = client.Close()
		if !orphaned(accepted) {
			t.Error("it counts as there")
		}
	})
	t.Run("reset", func(t *testing.T) {
		client, accepted := pair(t, "127.0.0.1:0")
		_, _ = client.SetLinger(0), client.Close()
		if !orphaned(accepted) {
			t.Error("it counts as there")
		}
	})
	t.Run("no socket of the system", func(t *testing.T) {
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		if listen.Orphaned(a) {
			t.Error("what can't be asked counts as gone")
		}
	})
}

// However the connection came to be accepted, its client is found.
func TestOrphanedThroughTakers(t *testing.T) {
	withEach(t, func(t *testing.T, taker listen.Taker) {
		p, at := newPorts(t, taker), places(t, 1)
		set(t, p, at[0])
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
		if listen.Orphaned(accepted) {
			t.Error("a client that has ended its sending half counts as gone")
		}
		_ = client.Close()
		if !orphaned(accepted) {
			t.Error("a closed client counts as there")
		}
	})
}

func TestOrphanedOfAKilledProcess(t *testing.T) {
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
	cmd.Env = append(os.Environ(), clientOf+"="+l.Addr().String())
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
	if listen.Orphaned(conn) {
		t.Error("a living client counts as gone")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if !orphaned(conn) {
		t.Error("a killed client counts as there")
	}
}
