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

// What becomes of single connections, and that it is nothing to others.
func TestConnectionsDoNotDisturbEachOther(t *testing.T) {
	ns, host := namespaceWithPeer(t)
	d := up(t, "-n", ns)
	t.Run("the pod resets", func(t *testing.T) { testPodResets(t, host) })
	t.Run("an answer after the client's half-close", func(t *testing.T) { testHalfClose(t, host) })
	t.Run("a killed client", func(t *testing.T) { testKilledClient(t, host) })
	t.Run("a stalled reader", func(t *testing.T) { testDuringStall(t, host, stalledReader) })
	t.Run("a stalled pod", func(t *testing.T) { testDuringStall(t, host, stalledPod) })
	t.Run("both stalled", func(t *testing.T) { testDuringStall(t, host, bothStalled) })
	t.Run("nothing listens", func(t *testing.T) { testNothingListens(t, d, host) })
}

func testPodResets(t *testing.T, host string) {
	sibling := openConn(t, host, peer.Echo, "")
	for range 8 {
		for _, say := range []string{"", "x"} {
			if _, err := connectionEnd(host, peer.Reset, say); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the client gets %v, want a reset", err)
			}
		}
		if _, err := exchange(sibling, "x", "x"); err != nil {
			t.Fatalf("another connection: %v", err)
		}
	}
	if _, err := request(host, peer.Echo, "x", "x"); err != nil {
		t.Errorf("a new connection: %v", err)
	}
}

// testHalfClose has clients that say all they have to say, as `nc -N` does, and
// then wait for the answer and the end.
func testHalfClose(t *testing.T, host string) {
	t.Run("late", func(t *testing.T) {
		conn := openConn(t, host, peer.Late, "3s\n")
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(conn); err != nil || string(text) != "late\n" {
			t.Errorf("got %q, %v", text, err)
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
				t.Errorf("got %d of %d bytes, %v", n, len(text), err)
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
			begin := time.Now()
			rest, err := io.ReadAll(conn)
			if err != nil || len(rest) > 0 {
				t.Errorf("then it got %q, %v; want the end", rest, err)
			}
			took := time.Since(begin)
			if t.Logf("the end came %v after the last byte", took); took > 5*time.Second {
				t.Error("that is late")
			}
		})
	}
}

// testKilledClient kills processes that have a connection. What the pod has
// of it is soon gone too.
func testKilledClient(t *testing.T, host string) {
	address, err := resolve(host)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		doing string
		port  uint16
		say   string
	}{
		{"nothing", peer.Echo, "hello"},
		{"waiting for an answer", peer.Upper, "hello"},
		{"downloading", peer.Source, strconv.Itoa(endless)},
	} {
		t.Run(c.doing, func(t *testing.T) {
			eventually(t, "no connection is open", func() error { return checkOpenInPod(host, c.port, 0) })
			client := exec.Command("bash", "-c", `exec 3<>"/dev/tcp/$0/$1"; echo "$2" >&3; echo connected; exec cat <&3 >/dev/null`,
				address, strconv.Itoa(int(c.port)), c.say)
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
				t.Fatalf("the client says %q, %v", line, err)
			}
			eventually(t, "its connection is open", func() error { return checkOpenInPod(host, c.port, 1) })
			pause(t, 500*time.Millisecond) // so that what has been said is over
			if err := client.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			took := eventually(t, "its connection is gone", func() error { return checkOpenInPod(host, c.port, 0) })
			if t.Logf("its connection was gone after %v", took); took > 4*time.Second {
				t.Error("that is late")
			}
		})
	}
}

// testDuringStall has more connections to one pod than connections to the API server
// are made for it, and one more that stalls: the others don't notice.
func testDuringStall(t *testing.T, host string, stall func(t *testing.T, host string)) {
	const established, anew, rounds = 40, 12, 3
	conns := make([]net.Conn, established)
	for i := range conns {
		conns[i] = openConn(t, host, peer.Echo, "")
	}
	old := func(i int) (time.Duration, error) { return exchange(conns[i], "x", "x") }
	fresh := func(i int) (time.Duration, error) {
		switch i % 3 {
		case 0:
			return request(host, peer.Echo, "x", "x")
		case 1:
			return request(host, peer.Source, "1\n", "\x00")
		}
		return request(host, peer.Greet, "", "hello\n")
	}
	ask := func(when string) {
		t.Helper()
		for range rounds {
			oldTook, oldErr := concurrently(established, old)
			freshTook, freshErr := concurrently(anew, fresh)
			if err := errors.Join(oldErr, freshErr); err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			t.Logf("%s: %d open connections had their answer within %v, %d new ones within %v", when, established, oldTook, anew, freshTook)
			if max(oldTook, freshTook) > 3*time.Second {
				t.Errorf("%s: some waited", when)
			}
		}
	}
	ask("before")
	stall(t, host)
	ask("beside it")
}

// stalledReader asks for bytes without end and reads none.
func stalledReader(t *testing.T, host string) {
	t.Helper()
	openConn(t, host, peer.Source, fmt.Sprintf("%d\n", endless))
	pause(t, time.Second) // all that is between us and the pod fills
}

// stalledPod sends to a pod that reads nothing.
func stalledPod(t *testing.T, host string) {
	t.Helper()
	if err := sendAll(openConn(t, host, peer.Stall, "")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("sending to a pod that doesn't read ends with %v", err)
	}
}

// bothStalled sends to a pod that sends it all back, and reads none of it. Such
// a client may be reset for the sake of the others.
func bothStalled(t *testing.T, host string) {
	t.Helper()
	t.Logf("sending ends with %v", sendAll(openConn(t, host, peer.Echo, "")))
}

// sendAll sends until nothing was taken for a second, which is an
// os.ErrDeadlineExceeded, and no more than could be held anywhere.
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

// testNothingListens checks that clients are told soon, and the user once.
func testNothingListens(t *testing.T, d *daemon, host string) {
	const connections = 100
	from := d.logLen()
	once := func(int) (time.Duration, error) {
		took, err := connectionEnd(host, closedPort, "x")
		if !errors.Is(err, syscall.ECONNRESET) {
			return 0, fmt.Errorf("the client gets %w, want a reset", err)
		}
		return took, nil
	}
	first, err1 := once(0)
	slowest, err2 := concurrently(connections-1, once)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	t.Logf("the first was reset after %v, the others after %v at most", first, slowest)
	if max(first, slowest) > 5*time.Second {
		t.Error("that is late")
	}
	d.waitForLogOnce(t, from, fmt.Sprintf("nothing listens on port %d", closedPort))
}
