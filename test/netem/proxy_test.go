package netem_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/test/netem"
	"github.com/kubeshore/kubeshore/test/peer"
)

const proxyTestTimeout = 10 * time.Second

// listen returns a listener of this machine that runs until the test ends.
func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// runUntilTestEnds runs something that ends with its context until the test ends.
func runUntilTestEnds(t *testing.T, run func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// startProxy runs a proxy to a target and returns where it is.
func startProxy(t *testing.T, target string, roundTrip time.Duration) (*netem.Proxy, string) {
	t.Helper()
	p, l := netem.New(target, roundTrip), listen(t)
	runUntilTestEnds(t, func(ctx context.Context) error { return p.Serve(ctx, l) })
	return p, l.Addr().String()
}

// startPeer runs one port of a peer and returns where it is.
func startPeer(t *testing.T, port uint16) string {
	t.Helper()
	l := listen(t)
	runUntilTestEnds(t, func(ctx context.Context) error {
		return peer.Serve(ctx, map[uint16]net.Listener{port: l})
	})
	return l.Addr().String()
}

func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(proxyTestTimeout)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

// connectedPair returns both ends of a connection through a proxy.
func connectedPair(t *testing.T, roundTrip time.Duration) (p *netem.Proxy, client, server *net.TCPConn) {
	t.Helper()
	l := listen(t)
	p, at := startProxy(t, l.Addr().String(), roundTrip)
	client = dial(t, at)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return p, client, conn.(*net.TCPConn)
}

// echoByte sends a byte that is to come back.
func echoByte(conn net.Conn) error {
	if _, err := conn.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

// expectNoAnswer checks that a byte that is sent doesn't come back, and that the
// connection is open all the same.
func expectNoAnswer(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if err := echoByte(conn); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the answer is %v, want none", err)
	}
	if err := conn.SetDeadline(time.Now().Add(proxyTestTimeout)); err != nil {
		t.Fatal(err)
	}
}

func TestProxyForwardsEveryByte(t *testing.T) {
	for _, roundTrip := range []time.Duration{0, 20 * time.Millisecond} {
		t.Run(roundTrip.String(), func(t *testing.T) {
			_, at := startProxy(t, startPeer(t, peer.Echo), roundTrip)
			conn := dial(t, at)
			sent := bytes.Repeat([]byte("all that was sent "), 200_000)
			var sending sync.WaitGroup
			defer sending.Wait()
			sending.Go(func() {
				_, err := conn.Write(sent)
				if err = errors.Join(err, conn.CloseWrite()); err != nil {
					t.Error(err)
				}
			})
			got, err := io.ReadAll(conn)
			if err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%d bytes came back, %v; want %d", len(got), err, len(sent))
			}
		})
	}
}

func TestProxyAddsRoundTrip(t *testing.T) {
	const roundTrip = 200 * time.Millisecond
	p, at := startProxy(t, startPeer(t, peer.Echo), roundTrip)
	took := func(do func() error) time.Duration {
		begin := time.Now()
		if err := do(); err != nil {
			t.Fatal(err)
		}
		return time.Since(begin)
	}
	conn := dial(t, at)
	// The upper limits only tell one round trip more from none.
	if d := took(func() error { return echoByte(conn) }); d < 2*roundTrip || d >= 3*roundTrip {
		t.Errorf("the first answer takes %v, want two round trips", d)
	}
	if d := took(func() error { return echoByte(conn) }); d < roundTrip || d >= 2*roundTrip {
		t.Errorf("the second answer takes %v, want a round trip", d)
	}
	p.SetRoundTrip(0)
	if d := took(func() error { return echoByte(conn) }); d >= roundTrip {
		t.Errorf("without a delay an answer takes %v", d)
	}
}

// Many segments are on their way at a time: one at a time would take minutes.
func TestProxyDoesNotLimitThroughput(t *testing.T) {
	const n = 64 << 20
	_, at := startProxy(t, startPeer(t, peer.Source), 200*time.Millisecond)
	conn := dial(t, at)
	if err := conn.SetDeadline(time.Now().Add(3 * proxyTestTimeout)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "%d\n", n)
	if got, err := io.Copy(io.Discard, conn); got != n || err != nil {
		t.Errorf("got %d bytes, %v", got, err)
	}
}

// What is not read is not kept either: the sender is held up.
func TestProxyHoldsUpSenderOfUnreadData(t *testing.T) {
	_, client, server := connectedPair(t, 0)
	chunk := make([]byte, 1<<20)
	sent := 0
	for {
		if err := client.SetWriteDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err := client.Write(chunk)
		sent += n
		if errors.Is(err, os.ErrDeadlineExceeded) && n == 0 {
			break
		}
		if sent > 200<<20 {
			t.Fatal("it takes everything")
		}
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.Copy(io.Discard, server); got != int64(sent) || err != nil {
		t.Errorf("%d bytes arrive, %v; want %d", got, err, sent)
	}
}

func TestProxyForwardsCloseAndReset(t *testing.T) {
	t.Run("in order, one way after the other", func(t *testing.T) {
		_, client, server := connectedPair(t, 10*time.Millisecond)
		for _, way := range [][2]*net.TCPConn{{client, server}, {server, client}} {
			if _, err := io.WriteString(way[0], "last"); err != nil {
				t.Fatal(err)
			}
			if err := way[0].CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(way[1]); string(got) != "last" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		}
	})
	t.Run("a reset of either side", func(t *testing.T) {
		for _, swap := range []bool{false, true} {
			_, a, b := connectedPair(t, 10*time.Millisecond)
			if swap {
				a, b = b, a
			}
			if err := a.SetLinger(0); err != nil {
				t.Fatal(err)
			}
			_ = a.Close()
			if _, err := b.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("got %v", err)
			}
		}
	})
	t.Run("a target that refuses", func(t *testing.T) {
		l := listen(t)
		_ = l.Close()
		_, at := startProxy(t, l.Addr().String(), 0)
		conn, err := net.Dial("tcp", at)
		if err == nil {
			defer conn.Close()
			_, err = conn.Read(make([]byte, 1))
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v", err)
		}
	})
}

func TestBlackholeDropsDataAndKeepsConnections(t *testing.T) {
	p, at := startProxy(t, startPeer(t, peer.Echo), 0)
	busy, idle := dial(t, at), dial(t, at)
	for _, conn := range []net.Conn{busy, idle} {
		if err := echoByte(conn); err != nil {
			t.Fatal(err)
		}
	}
	p.Blackhole()
	expectNoAnswer(t, busy)
	begun := dial(t, at)
	expectNoAnswer(t, begun)
	p.Resume()
	for what, conn := range map[string]net.Conn{"a new connection": dial(t, at), "one that was idle": idle} {
		if err := echoByte(conn); err != nil {
			t.Errorf("%s after the silence: %v", what, err)
		}
	}
	expectNoAnswer(t, busy)
	expectNoAnswer(t, begun)
}

// In silence the end of one side is kept from the other.
func TestBlackholeHidesClose(t *testing.T) {
	p, client, server := connectedPair(t, 0)
	p.Blackhole()
	_ = server.Close()
	expectNoAnswer(t, client)
}

func TestResetAllResetsBothSides(t *testing.T) {
	p, client, server := connectedPair(t, 0)
	if _, err := io.WriteString(client, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	p.ResetAll()
	for _, conn := range []net.Conn{client, server} {
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v", err)
		}
	}
	p, at := startProxy(t, startPeer(t, peer.Echo), 0)
	p.Blackhole()
	lost := dial(t, at)
	expectNoAnswer(t, lost)
	p.ResetAll()
	if _, err := lost.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a lost one: %v", err)
	}
	p.Resume()
	if err := echoByte(dial(t, at)); err != nil {
		t.Errorf("a new one: %v", err)
	}
}
