package listen_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/kubeshore/kubeshore/pkg/listen"
)

// freePorts returns n addresses with the same port, which is free on all of them.
func freePorts(t *testing.T, n int) []netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	result := make([]netip.AddrPort, n)
	for i := range result {
		result[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 70, 0, byte(i + 1)}), port)
	}
	return result
}

// withEachTaker runs a test with each Taker. Without root, it skips the one that needs it.
func withEachTaker(t *testing.T, test func(*testing.T, listen.Taker)) {
	t.Helper()
	for _, mode := range []listen.Mode{listen.ModeEach, listen.ModeLookup} {
		t.Run(string(mode), func(t *testing.T) {
			taker, err := listen.Open(t.Context(), mode)
			if err != nil && mode == listen.ModeLookup && os.Geteuid() != 0 {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := taker.Close(); err != nil {
					t.Error(err)
				}
			}()
			test(t, taker)
		})
	}
}

func newPorts(t *testing.T, taker listen.Taker) *listen.Ports {
	t.Helper()
	p := listen.New(taker)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func mustSet(t *testing.T, p *listen.Ports, want ...netip.AddrPort) {
	t.Helper()
	if portErrors := p.Set(t.Context(), want); len(portErrors) > 0 {
		t.Fatalf("got port errors %v, want none", portErrors)
	}
}

// checkAccepts connects to an address and port, and checks that p accepts the
// connection with that local address.
func checkAccepts(t *testing.T, p *listen.Ports, at netip.AddrPort) {
	t.Helper()
	client, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := p.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, want := conn.RemoteAddr().String(), client.LocalAddr().String(); got != want {
		t.Fatalf("got remote address %s, want %s", got, want)
	}
	if got := conn.LocalAddr().String(); got != at.String() {
		t.Errorf("got local address %s, want %s", got, at)
	}
}

func isRefused(at netip.AddrPort) bool {
	conn, err := net.Dial("tcp", at.String())
	if err == nil {
		_ = conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

func TestPortsFollowTheSet(t *testing.T) { withEachTaker(t, testFollow) }

func testFollow(t *testing.T, taker listen.Taker) {
	p, at := newPorts(t, taker), freePorts(t, 3)
	mustSet(t, p, at[0], at[1])
	for _, want := range at[:2] {
		checkAccepts(t, p, want)
	}
	if !isRefused(at[2]) {
		t.Errorf("%v was never in the set, but isn't refused", at[2])
	}
	mustSet(t, p, at[1], at[2])
	if !isRefused(at[0]) {
		t.Errorf("%v was removed from the set, but isn't refused", at[0])
	}
	for _, want := range at[1:] {
		checkAccepts(t, p, want)
	}
}

// If another process listens on a port, the error names the process, the other
// ports work, and Set opens the port once it is free.
func TestEachNamesTheProcessThatUsesAPort(t *testing.T) {
	p, at := newPorts(t, listen.NewEach("test")), freePorts(t, 2)
	other, err := net.Listen("tcp", at[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	portErrors := p.Set(t.Context(), at)
	want := fmt.Sprintf("in use by listen.test (pid %d)", os.Getpid())
	if len(portErrors) != 1 || !strings.Contains(portErrors[at[0]].Error(), want) {
		t.Fatalf("got port errors %v, want one for %v that contains %q", portErrors, at[0], want)
	}
	checkAccepts(t, p, at[1])
	_ = other.Close()
	mustSet(t, p, at...)
	checkAccepts(t, p, at[0])
}

func TestSetKeepsAcceptedConnections(t *testing.T) { withEachTaker(t, testKeep) }

func testKeep(t *testing.T, taker listen.Taker) {
	p, at := newPorts(t, taker), freePorts(t, 1)
	mustSet(t, p, at[0])
	client, err := net.Dial("tcp", at[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := p.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	mustSet(t, p)
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("read %d bytes (%v), want 1", n, err)
	}
}

func TestClosedPortsRefuse(t *testing.T) { withEachTaker(t, testClose) }

func testClose(t *testing.T, taker listen.Taker) {
	p, at := listen.New(taker), freePorts(t, 2)
	mustSet(t, p, at...)
	var waiting sync.WaitGroup
	for range 2 {
		waiting.Go(func() {
			if _, err := p.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Accept: got error %v, want %v", err, net.ErrClosed)
			}
		})
	}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	waiting.Wait()
	for _, closed := range at {
		if !isRefused(closed) {
			t.Errorf("%v isn't refused after Close", closed)
		}
	}
	if portErrors := p.Set(t.Context(), at); len(portErrors) != len(at) {
		t.Errorf("Set after Close: got port errors %v, want %d", portErrors, len(at))
	}
}

// Take returns sockets again that the caller has lost, and not those that it has.
func TestTakeReturnsLostSocketsAgain(t *testing.T) { withEachTaker(t, testTakeAgain) }

func testTakeAgain(t *testing.T, taker listen.Taker) {
	at := freePorts(t, 3)
	sockets, portErrors, err := taker.Take(t.Context(), at, nil)
	if err != nil || len(portErrors) > 0 || len(sockets) == 0 {
		t.Fatalf("got sockets %v, port errors %v, error %v", sockets, portErrors, err)
	}
	for _, socket := range sockets {
		_ = socket.Close()
	}
	p := newPorts(t, taker)
	for range 2 {
		mustSet(t, p, at...)
		for _, want := range at {
			checkAccepts(t, p, want)
		}
	}
}
