package listen_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/kubeshore/kubeshore/pkg/listen"
)

// places returns n addresses of one port that is free on all of them.
func places(t *testing.T, n int) []netip.AddrPort {
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

// withEach runs a test with each way to take ports. The test binary may run without
// root: then there is one way only, and the test says so.
func withEach(t *testing.T, test func(*testing.T, listen.Taker)) {
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

func set(t *testing.T, e *listen.Ports, want ...netip.AddrPort) {
	t.Helper()
	if faults := e.Set(t.Context(), want); len(faults) > 0 {
		t.Fatal(faults)
	}
}

// reach connects to a place and returns where the accepted end says it is.
func reach(t *testing.T, e *listen.Ports, at netip.AddrPort) string {
	t.Helper()
	client, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := e.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if conn.RemoteAddr().String() != client.LocalAddr().String() {
		t.Fatalf("accepted %v, not %v", conn.RemoteAddr(), client.LocalAddr())
	}
	return conn.LocalAddr().String()
}

func refused(at netip.AddrPort) bool {
	conn, err := net.Dial("tcp", at.String())
	if err == nil {
		_ = conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

func TestPortsFollowTheSet(t *testing.T) { withEach(t, testFollow) }

func testFollow(t *testing.T, taker listen.Taker) {
	e, at := newPorts(t, taker), places(t, 3)
	set(t, e, at[0], at[1])
	for _, p := range at[:2] {
		if got := reach(t, e, p); got != p.String() {
			t.Errorf("LocalAddr %s, want %s", got, p)
		}
	}
	if !refused(at[2]) {
		t.Errorf("%v was never asked for and accepts", at[2])
	}
	set(t, e, at[1], at[2])
	if !refused(at[0]) {
		t.Errorf("%v is not in the set any more and accepts", at[0])
	}
	for _, p := range at[1:] {
		if got := reach(t, e, p); got != p.String() {
			t.Errorf("LocalAddr %s, want %s", got, p)
		}
	}
}

// A port in use is named with who has it, the others work, and it is taken when it
// comes free.
func TestEachNamesWhatIsInUse(t *testing.T) {
	e, at := newPorts(t, listen.NewEach("test")), places(t, 2)
	other, err := net.Listen("tcp", at[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	faults := e.Set(t.Context(), at)
	if len(faults) != 1 || !strings.Contains(faults[at[0]].Error(), fmt.Sprintf("in use by listen.test (process %d)", os.Getpid())) {
		t.Fatalf("faults %v, want that %v is in use by this process", faults, at[0])
	}
	if got := reach(t, e, at[1]); got != at[1].String() {
		t.Errorf("LocalAddr %s, want %s", got, at[1])
	}
	_ = other.Close()
	set(t, e, at...) // it is to be had now
	if got := reach(t, e, at[0]); got != at[0].String() {
		t.Errorf("LocalAddr %s, want %s", got, at[0])
	}
}

func TestPortsKeepAcceptedConnections(t *testing.T) { withEach(t, testKeep) }

func testKeep(t *testing.T, taker listen.Taker) {
	e, at := newPorts(t, taker), places(t, 1)
	set(t, e, at[0])
	client, err := net.Dial("tcp", at[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := e.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	set(t, e)
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
}

func TestPortsClose(t *testing.T) { withEach(t, testClose) }

func testClose(t *testing.T, taker listen.Taker) {
	e, at := listen.New(taker), places(t, 2)
	set(t, e, at...)
	var waiting sync.WaitGroup
	for range 2 {
		waiting.Go(func() {
			if _, err := e.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Accept says %v", err)
			}
		})
	}
	for range 2 {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	waiting.Wait()
	if slices.ContainsFunc(at, func(p netip.AddrPort) bool { return !refused(p) }) {
		t.Error("it still listens")
	}
	if faults := e.Set(t.Context(), at); len(faults) != 2 {
		t.Errorf("after Close, Set says %v", faults)
	}
}

func TestTakeAgain(t *testing.T) { withEach(t, testTakeAgain) }

// Sockets that were lost on their way are given again, those that have arrived are not.
func testTakeAgain(t *testing.T, taker listen.Taker) {
	at := places(t, 3)
	taken, faults, err := taker.Take(t.Context(), at, nil)
	if err != nil || len(faults) > 0 || len(taken) == 0 {
		t.Fatal(taken, faults, err)
	}
	for _, socket := range taken {
		_ = socket.Close()
	}
	e := newPorts(t, taker)
	for range 2 {
		set(t, e, at...)
		for _, p := range at {
			if got := reach(t, e, p); got != p.String() {
				t.Errorf("LocalAddr %s, want %s", got, p)
			}
		}
	}
}
