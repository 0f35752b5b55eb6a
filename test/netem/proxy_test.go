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

// listen returns a listener on localhost that is open until the test ends.
func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// runUntilTestEnds runs a function whose context ends with the test, and waits
// for it.
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

// startProxy runs a proxy to target and returns it with its address.
func startProxy(t *testing.T, target string, roundTrip time.Duration) (*netem.Proxy, string) {
	t.Helper()
	p, l := netem.New(target, roundTrip), listen(t)
	runUntilTestEnds(t, func(ctx context.Context) error { return p.Serve(ctx, l) })
	return p, l.Addr().String()
}

// startPeer serves one port of a peer and returns its address.
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
	p, addr := startProxy(t, l.Addr().String(), roundTrip)
	client = dial(t, addr)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return p, client, conn.(*net.TCPConn)
}

// echoByte sends a byte and waits for its echo.
func echoByte(conn net.Conn) error {
	if _, err := conn.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

// expectNoAnswer checks that a byte gets no echo while the connection stays
// open.
func expectNoAnswer(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if err := echoByte(conn); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want a timeout", err)
	}
	if err := conn.SetDeadline(time.Now().Add(proxyTestTimeout)); err != nil {
		t.Fatal(err)
	}
}

func TestProxyForwardsEveryByte(t *testing.T) {
	for _, roundTrip := range []time.Duration{0, 20 * time.Millisecond} {
		t.Run(roundTrip.String(), func(t *testing.T) {
			_, addr := startProxy(t, startPeer(t, peer.Echo), roundTrip)
			conn := dial(t, addr)
			sent := bytes.Repeat([]byte("forwarded bytes "), 200_000)
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
				t.Errorf("got %d bytes, %v; want the %d sent bytes", len(got), err, len(sent))
			}
		})
	}
}

func TestProxyAddsRoundTrip(t *testing.T) {
	const roundTrip = 200 * time.Millisecond
	p, addr := startProxy(t, startPeer(t, peer.Echo), roundTrip)
	took := func(do func() error) time.Duration {
		begin := time.Now()
		if err := do(); err != nil {
			t.Fatal(err)
		}
		return time.Since(begin)
	}
	conn := dial(t, addr)
	// The upper limits only exclude an additional round trip.
	if d := took(func() error { return echoByte(conn) }); d < 2*roundTrip || d >= 3*roundTrip {
		t.Errorf("first echo took %v, want two round trips (%v)", d, 2*roundTrip)
	}
	if d := took(func() error { return echoByte(conn) }); d < roundTrip || d >= 2*roundTrip {
		t.Errorf("second echo took %v, want one round trip (%v)", d, roundTrip)
	}
	p.SetRoundTrip(0)
	if d := took(func() error { return echoByte(conn) }); d >= roundTrip {
		t.Errorf("echo without a delay took %v, want less than %v", d, roundTrip)
	}
}

// Many segments are in transit at a time. One at a time would take minutes.
func TestProxyDoesNotLimitThroughput(t *testing.T) {
	const n = 64 << 20
	_, addr := startProxy(t, startPeer(t, peer.Source), 200*time.Millisecond)
	conn := dial(t, addr)
	if err := conn.SetDeadline(time.Now().Add(3 * proxyTestTimeout)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "%d\n", n)
	if got, err := io.Copy(io.Discard, conn); got != n || err != nil {
		t.Errorf("got %d bytes, %v; want %d", got, err, n)
	}
}

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
			t.Fatalf("the proxy accepted %d bytes that nobody reads, want it to hold up the sender", sent)
		}
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.Copy(io.Discard, server); got != int64(sent) || err != nil {
		t.Errorf("got %d bytes, %v; want %d", got, err, sent)
	}
}

func TestProxyForwardsCloseAndReset(t *testing.T) {
	t.Run("close, one direction after the other", func(t *testing.T) {
		_, client, server := connectedPair(t, 10*time.Millisecond)
		for _, ends := range [][2]*net.TCPConn{{client, server}, {server, client}} {
			if _, err := io.WriteString(ends[0], "last"); err != nil {
				t.Fatal(err)
			}
			if err := ends[0].CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(ends[1]); string(got) != "last" || err != nil {
				t.Errorf("got %q, %v; want last", got, err)
			}
		}
	})
	t.Run("reset of either side", func(t *testing.T) {
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
				t.Errorf("got %v, want %v", err, syscall.ECONNRESET)
			}
		}
	})
	t.Run("target refuses", func(t *testing.T) {
		l := listen(t)
		_ = l.Close()
		_, addr := startProxy(t, l.Addr().String(), 0)
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			defer conn.Close()
			_, err = conn.Read(make([]byte, 1))
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v, want %v", err, syscall.ECONNRESET)
		}
	})
}

func TestBlackholeDropsDataAndKeepsConnections(t *testing.T) {
	p, addr := startProxy(t, startPeer(t, peer.Echo), 0)
	busy, idle := dial(t, addr), dial(t, addr)
	for _, conn := range []net.Conn{busy, idle} {
		if err := echoByte(conn); err != nil {
			t.Fatal(err)
		}
	}
	p.Blackhole()
	expectNoAnswer(t, busy)
	opened := dial(t, addr)
	expectNoAnswer(t, opened)
	p.Resume()
	for name, conn := range map[string]net.Conn{"new": dial(t, addr), "idle": idle} {
		if err := echoByte(conn); err != nil {
			t.Errorf("%s connection after Resume: %v", name, err)
		}
	}
	expectNoAnswer(t, busy)
	expectNoAnswer(t, opened)
}

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
			t.Errorf("got %v, want %v", err, syscall.ECONNRESET)
		}
	}
	p, addr := startProxy(t, startPeer(t, peer.Echo), 0)
	p.Blackhole()
	lost := dial(t, addr)
	expectNoAnswer(t, lost)
	p.ResetAll()
	if _, err := lost.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("connection that lost data: got %v, want %v", err, syscall.ECONNRESET)
	}
	p.Resume()
	if err := echoByte(dial(t, addr)); err != nil {
		t.Errorf("new connection: %v", err)
	}
}

func TestIdleTimeoutResetsIdleConnectionsOnly(t *testing.T) {
	const idleTimeout = time.Second
	p, addr := startProxy(t, startPeer(t, peer.Echo), 0)
	before := dial(t, addr)
	if err := echoByte(before); err != nil {
		t.Fatal(err)
	}
	p.SetIdleTimeout(idleTimeout)
	busy, idle := dial(t, addr), dial(t, addr)
	if err := echoByte(idle); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(idleTimeout / 20) // much less than the timeout
	defer tick.Stop()
	for begin := time.Now(); time.Since(begin) < 2*idleTimeout; <-tick.C {
		if err := echoByte(busy); err != nil {
			t.Fatalf("busy connection: %v", err)
		}
	}
	if err := echoByte(before); err != nil {
		t.Errorf("connection from before SetIdleTimeout: %v", err)
	}
	if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("idle connection: got %v, want %v", err, syscall.ECONNRESET)
	}
}
