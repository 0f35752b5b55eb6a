//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/test/peer"
)

// A connection that is reset, half-closed, killed or stalled doesn't affect
// other connections.
func TestConnectionsDoNotDisturbEachOther(t *testing.T) {
	ns, host := namespaceWithPeer(t)
	d := up(t, "-n", ns)
	t.Run("reset by the pod", func(t *testing.T) { testPodResets(t, host) })
	t.Run("response after the client's half-close", func(t *testing.T) { testHalfClose(t, host) })
	t.Run("killed client", func(t *testing.T) { testKilledClient(t, host) })
	t.Run("stalled reader", func(t *testing.T) { testDuringStall(t, host, stalledReader) })
	t.Run("stalled pod", func(t *testing.T) { testDuringStall(t, host, stalledPod) })
	t.Run("both stalled", func(t *testing.T) { testDuringStall(t, host, bothStalled) })
	t.Run("closed port", func(t *testing.T) { testClosedPort(t, d, host) })
}

func testPodResets(t *testing.T, host string) {
	sibling := openConn(t, host, peer.Echo, "")
	for range 8 {
		for _, send := range []string{"", "x"} {
			if _, err := connectionEnd(host, peer.Reset, send); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("got %v, want a reset", err)
			}
		}
		if _, err := exchange(sibling, "x", "x"); err != nil {
			t.Fatalf("other connection: %v", err)
		}
	}
	if _, err := request(host, peer.Echo, "x", "x"); err != nil {
		t.Errorf("new connection: %v", err)
	}
}

// testHalfClose half-closes connections when all input is sent, like `nc -N`,
// and then waits for the response and the close.
func testHalfClose(t *testing.T, host string) {
	t.Run("late", func(t *testing.T) {
		conn := openConn(t, host, peer.Late, "3s\n")
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(conn); err != nil || string(text) != "late\n" {
			t.Errorf("got %q, %v; want %q", text, err, "late\n")
		}
	})
	t.Run("large and slow", func(t *testing.T) {
		conn := openConn(t, host, peer.Source, fmt.Sprintf("%d\n", download))
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		const first = 1 << 20
		if _, err := io.CopyN(io.Discard, conn, first); err != nil {
			t.Fatal(err)
		}
		pause(t, 3*time.Second)
		if err := receive(conn, first, download); err != nil {
			t.Error(err)
		}
	})
	for name, size := range map[string]int{"echo": len("hello"), "large echo": 4 << 20} {
		t.Run(name, func(t *testing.T) {
			text := bytes.Repeat([]byte("hello"), size/len("hello"))
			conn := openConn(t, host, peer.Echo, "")
			sent := make(chan error, 1)
			go func() {
				_, err := conn.Write(text)
				sent <- errors.Join(err, conn.CloseWrite())
			}()
			got := make([]byte, len(text))
			if n, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, text) {
				t.Errorf("got %d bytes, %v; want the %d sent bytes", n, err, len(text))
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
			begin := time.Now()
			rest, err := io.ReadAll(conn)
			if err != nil || len(rest) > 0 {
				t.Errorf("after the response: got %q, %v; want a close", rest, err)
			}
			took := time.Since(begin)
			if t.Logf("closed %v after the last byte", took); took > 5*time.Second {
				t.Errorf("closed %v after the last byte, want 5s at most", took)
			}
		})
	}
}

// testKilledClient kills processes that have a connection, and checks that the
// pod's connection is soon closed too.
func testKilledClient(t *testing.T, host string) {
	address, err := resolve(host)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		port uint16
		send string
	}{
		{"idle", peer.Echo, "hello"},
		{"waiting for a response", peer.Upper, "hello"},
		{"downloading", peer.Source, strconv.Itoa(endless)},
	} {
		t.Run(c.name, func(t *testing.T) {
			eventually(t, "all connections are closed", func() error { return checkOpenInPod(host, c.port, 0) })
			client := exec.Command("bash", "-c", `exec 3<>"/dev/tcp/$0/$1"; echo "$2" >&3; echo connected; exec cat <&3 >/dev/null`,
				address, strconv.Itoa(int(c.port)), c.send)
			out, err := client.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := client.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = client.Wait() }()
			defer func() { _ = client.Process.Kill() }()
			if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "connected\n" {
				t.Fatalf("output of the client: got %q, %v; want connected", line, err)
			}
			eventually(t, "the client's connection is open", func() error { return checkOpenInPod(host, c.port, 1) })
			pause(t, 500*time.Millisecond) // let the exchange finish
			if err := client.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			took := eventually(t, "the client's connection is closed", func() error { return checkOpenInPod(host, c.port, 0) })
			if t.Logf("the connection was closed after %v", took); took > 4*time.Second {
				t.Errorf("the connection was closed after %v, want 4s at most", took)
			}
		})
	}
}

// testDuringStall opens more connections to one pod than kubeshore makes to
// the API server for it, and one more that stalls. It checks that the others
// don't wait.
func testDuringStall(t *testing.T, host string, stall func(t *testing.T, host string)) {
	const openCount, newCount, rounds = 40, 12, 3
	conns := make([]net.Conn, openCount)
	for i := range conns {
		conns[i] = openConn(t, host, peer.Echo, "")
	}
	onOpen := func(i int) (time.Duration, error) { return exchange(conns[i], "x", "x") }
	onNew := func(i int) (time.Duration, error) {
		switch i % 3 {
		case 0:
			return request(host, peer.Echo, "x", "x")
		case 1:
			return request(host, peer.Source, "1\n", "\x00")
		}
		return request(host, peer.Greet, "", "hello\n")
	}
	check := func(when string) {
		t.Helper()
		for range rounds {
			openTook, openErr := concurrently(openCount, onOpen)
			newTook, newErr := concurrently(newCount, onNew)
			if err := errors.Join(openErr, newErr); err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			t.Logf("%s: %d open connections got responses within %v, %d new ones within %v", when, openCount, openTook, newCount, newTook)
			if max(openTook, newTook) > 3*time.Second {
				t.Errorf("%s: responses took up to %v, want 3s at most", when, max(openTook, newTook))
			}
		}
	}
	check("before the stall")
	stall(t, host)
	check("during the stall")
}

// stalledReader requests an endless download and reads none of it.
func stalledReader(t *testing.T, host string) {
	t.Helper()
	openConn(t, host, peer.Source, fmt.Sprintf("%d\n", endless))
	pause(t, time.Second) // let the buffers on the way fill up
}

// stalledPod sends to a pod that doesn't read.
func stalledPod(t *testing.T, host string) {
	t.Helper()
	if err := sendAll(openConn(t, host, peer.Stall, "")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("send to a pod that doesn't read: got %v, want a timeout", err)
	}
}

// bothStalled sends to a pod that echoes everything, and reads none of it.
// kubeshore may reset such a client in favor of the others.
func bothStalled(t *testing.T, host string) {
	t.Helper()
	t.Logf("send: %v", sendAll(openConn(t, host, peer.Echo, "")))
}

// sendAll sends until no byte was accepted for a second, which is an
// os.ErrDeadlineExceeded, or until it has sent more than all buffers can hold.
func sendAll(conn net.Conn) error {
	chunk := make([]byte, 1<<20)
	for range 512 {
		if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		if n, err := conn.Write(chunk); err != nil && n == 0 {
			return err
		}
	}
	return nil
}

// testClosedPort checks that clients are reset soon and that the closed port
// is logged once.
func testClosedPort(t *testing.T, d *daemon, host string) {
	const connections = 100
	from := d.logLen()
	once := func(int) (time.Duration, error) {
		took, err := connectionEnd(host, closedPort, "x")
		if !errors.Is(err, syscall.ECONNRESET) {
			return 0, fmt.Errorf("got %w, want a reset", err)
		}
		return took, nil
	}
	first, err1 := once(0)
	slowest, err2 := concurrently(connections-1, once)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	t.Logf("first client reset after %v, the others after %v at most", first, slowest)
	if took := max(first, slowest); took > 5*time.Second {
		t.Errorf("clients reset after up to %v, want 5s at most", took)
	}
	d.waitForLogOnce(t, from, fmt.Sprintf("nothing listens on port %d", closedPort))
}
