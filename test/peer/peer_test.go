package peer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/test/peer"
)

const peerTestTimeout = 10 * time.Second

// startPeer runs a peer for the test and returns the address of each port.
func startPeer(t *testing.T) map[uint16]string {
	t.Helper()
	listeners, addrs := make(map[uint16]net.Listener), make(map[uint16]string)
	for _, port := range peer.Ports() {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[port], addrs[port] = l, l.Addr().String()
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- peer.Serve(ctx, listeners) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return addrs
}

func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(peerTestTimeout)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

// expect reads from the connection and fails if the bytes are not want.
func expect(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("got %q, %v; want %q", got[:n], err, want)
	}
}

// expectEnd checks that no more data arrives and that the connection ends with
// the given error, or with a close if that is nil.
func expectEnd(t *testing.T, conn net.Conn, want error) {
	t.Helper()
	if rest, err := io.ReadAll(conn); len(rest) > 0 || !errors.Is(err, want) {
		t.Errorf("got %d more bytes and %v, want 0 and %v", len(rest), err, want)
	}
}

func TestEchoReturnsInput(t *testing.T) {
	conn := dial(t, startPeer(t)[peer.Echo])
	send(t, conn, "one")
	expect(t, conn, "one")
	send(t, conn, "two")
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	expect(t, conn, "two")
	expectEnd(t, conn, nil)
}

func TestSourceSendsPattern(t *testing.T) {
	addr := startPeer(t)[peer.Source]
	for _, n := range []int{0, 1, 1_000_000} {
		conn := dial(t, addr)
		send(t, conn, strconv.Itoa(n)+"\n")
		got, err := io.ReadAll(conn)
		if err != nil || len(got) != n {
			t.Fatalf("got %d bytes, %v; want %d", len(got), err, n)
		}
		for i, b := range got {
			if b != byte(i%251) {
				t.Fatalf("byte %d: got %d, want %d", i, b, i%251)
			}
		}
	}
}

func TestSinkConfirmsReceipt(t *testing.T) {
	addr := startPeer(t)[peer.Sink]
	for _, n := range []int{0, 1, 1_000_000} {
		conn := dial(t, addr)
		send(t, conn, fmt.Sprintf("%d\n%s", n, bytes.Repeat([]byte("x"), n)))
		expect(t, conn, "done\n")
		expectEnd(t, conn, nil)
	}
}

func TestGreetSpeaksFirst(t *testing.T) {
	conn := dial(t, startPeer(t)[peer.Greet])
	expect(t, conn, "hello\n")
	send(t, conn, "hi")
	expect(t, conn, "hi")
}

func TestStallNeitherReadsNorWrites(t *testing.T) {
	conn := dial(t, startPeer(t)[peer.Stall])
	chunk := make([]byte, 1<<20)
	for {
		if err := conn.SetWriteDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Write(chunk); errors.Is(err, os.ErrDeadlineExceeded) {
			if n > 0 {
				continue // the buffers are still growing
			}
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(chunk); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %d bytes, %v; want a timeout", n, err)
	}
}

func TestResetResetsAtOnce(t *testing.T) {
	conn, err := net.Dial("tcp", startPeer(t)[peer.Reset])
	if err == nil {
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) { // Dial may return the reset as well
		t.Errorf("got %v, want %v", err, syscall.ECONNRESET)
	}
}

func TestLateAnswersAfterDelay(t *testing.T) {
	addr := startPeer(t)[peer.Late]
	for _, half := range []bool{false, true} {
		conn := dial(t, addr)
		begin := time.Now()
		send(t, conn, "200ms\n")
		if half {
			if err := conn.CloseWrite(); err != nil {
				t.Fatal(err)
			}
		}
		expect(t, conn, "late\n")
		if took := time.Since(begin); took < 200*time.Millisecond {
			t.Errorf("answered after %v, want 200ms or more", took)
		}
		expectEnd(t, conn, nil)
	}
}

func TestUpperAnswersAfterHalfClose(t *testing.T) {
	addr := startPeer(t)[peer.Upper]
	conn := dial(t, addr)
	send(t, conn, "mixed Case")
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	expect(t, conn, "MIXED CASE")
	expectEnd(t, conn, nil)
}

func TestInvalidInputIsReset(t *testing.T) {
	addrs := startPeer(t)
	for _, c := range []struct {
		port uint16
		text string
	}{
		{peer.Source, "many\n"},
		{peer.Source, "-1\n"},
		{peer.Source, strings.Repeat("1", 100)},
		{peer.Sink, "0x10\n"},
		{peer.Late, "soon\n"},
	} {
		t.Run(fmt.Sprintf("%d %.8q", c.port, c.text), func(t *testing.T) {
			conn := dial(t, addrs[c.port])
			send(t, conn, c.text)
			expectEnd(t, conn, syscall.ECONNRESET)
		})
	}
	t.Run("too many bytes for Upper", func(t *testing.T) {
		conn := dial(t, addrs[peer.Upper])
		send(t, conn, strings.Repeat("x", 1<<20+1))
		expectEnd(t, conn, syscall.ECONNRESET)
	})
}

func TestHTTPKeepsConnectionAndCountsOpen(t *testing.T) {
	addrs := startPeer(t)
	connections := make(map[string]bool)
	client := &http.Client{Timeout: peerTestTimeout, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			if err == nil {
				connections[conn.LocalAddr().String()] = true
			}
			return conn, err
		},
	}}
	defer client.CloseIdleConnections()
	get := func(path string) string {
		resp, err := client.Get("http://" + addrs[peer.HTTP] + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	open := func(port uint16) int {
		count := make(map[string]int)
		if err := json.Unmarshal([]byte(get("/connections")), &count); err != nil {
			t.Fatal(err)
		}
		return count[strconv.Itoa(int(port))]
	}
	for range 3 {
		if got := get("/"); got != "ok\n" {
			t.Errorf("got %q, want %q", got, "ok\n")
		}
	}
	one, two := dial(t, addrs[peer.Echo]), dial(t, addrs[peer.Echo])
	for _, conn := range []net.Conn{one, two} {
		send(t, conn, "x")
		expect(t, conn, "x")
	}
	if echo, own := open(peer.Echo), open(peer.HTTP); echo != 2 || own != 1 {
		t.Errorf("got %d connections to Echo and %d to HTTP, want 2 and 1", echo, own)
	}
	_ = one.Close()
	for deadline := time.Now().Add(peerTestTimeout); open(peer.Echo) != 1; {
		if time.Now().After(deadline) {
			t.Fatal("closed connection is still counted")
		}
	}
	if len(connections) != 1 {
		t.Errorf("requests used %d connections, want 1", len(connections))
	}
}

// Serve closes open connections and waits for their goroutines.
func TestServeStopsWithContext(t *testing.T) {
	listeners, addrs := make(map[uint16]net.Listener), make(map[uint16]string)
	for _, port := range []uint16{peer.Echo, peer.Stall, peer.Late, peer.HTTP} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[port], addrs[port] = l, l.Addr().String()
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- peer.Serve(ctx, listeners) }()
	conn := dial(t, addrs[peer.Echo])
	send(t, conn, "x")
	expect(t, conn, "x")
	send(t, dial(t, addrs[peer.Late]), "1h\n")
	stalled := dial(t, addrs[peer.Stall])
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(peerTestTimeout):
		t.Fatalf("Serve did not return within %v", peerTestTimeout)
	}
	for _, conn := range []net.Conn{conn, stalled} {
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read from a connection after Serve returned: got %v, want an error other than a timeout", err)
		}
	}
}
