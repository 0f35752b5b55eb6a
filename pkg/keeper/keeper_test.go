//go:build linux || darwin

package keeper

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/kubeshore/kubeshore/internal/namepolicy"
	"github.com/kubeshore/kubeshore/pkg/hosts"
	"github.com/kubeshore/kubeshore/pkg/listen"
	"github.com/kubeshore/kubeshore/pkg/loopback"
)

func TestMain(m *testing.M) {
	if os.Getenv(guardEnv) != "" {
		runGuard()
	}
	goleak.VerifyTestMain(m)
}

const original = "127.0.0.1 localhost\n192.0.2.1 mine\n"

// pair returns the two ends of a connection.
func pair(t *testing.T) (_, _ *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "end")
		conn, err := net.FileConn(file)
		if err := errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
		ends[i] = conn.(*net.UnixConn)
		t.Cleanup(func() { _ = ends[i].Close() })
	}
	return ends[0], ends[1]
}

// testKeeper is a running keeper with its own hosts file.
type testKeeper struct {
	path    string
	peer    *net.UnixConn // the daemon's end
	ended   chan error    // receives the error of Serve
	mu      sync.Mutex
	refused []string // the reports to OnRefused
}

// startKeeper starts a keeper that runs until ctx or the test ends.
func startKeeper(ctx context.Context, t *testing.T) *testKeeper {
	t.Helper()
	return startKeeperThatHolds(ctx, t, nil)
}

// startKeeperThatHolds starts a keeper with [Keeper.Holds].
func startKeeperThatHolds(ctx context.Context, t *testing.T, holds func(netip.Addr) bool) *testKeeper {
	t.Helper()
	s := &testKeeper{path: filepath.Join(t.TempDir(), "hosts"), ended: make(chan error, 1)}
	if err := os.WriteFile(s.path, []byte(original), 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := hosts.Open(s.path, "1000")
	if err != nil {
		t.Fatal(err)
	}
	keeperEnd, daemonEnd := pair(t)
	s.peer = daemonEnd
	k := &Keeper{
		Version: "test", Allowed: []netip.Prefix{loopback.DefaultPrefix},
		NamePolicy: namepolicy.Policy{Patterns: []string{"*.shop", "!vpn.*"}, Reserved: namepolicy.OwnNames("build")},
		Ports:      listen.NewEach("test"), Holds: holds, Names: file, Aliases: &loopback.Aliases{},
		OnRefused: func(err error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.refused = append(s.refused, err.Error())
		},
	}
	watching, stop := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() { watched <- file.Run(watching) }()
	go func() {
		err := k.Serve(ctx, keeperEnd)
		stop()
		s.ended <- errors.Join(err, <-watched, file.Close(), keeperEnd.Close())
	}()
	t.Cleanup(func() { _ = daemonEnd.Close() })
	return s
}

func (s *testKeeper) hosts(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// waitForName waits until a name is in the hosts file.
func (s *testKeeper) waitForName(t *testing.T, name string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(s.hosts(t), name); {
		if time.Now().After(deadline) {
			t.Fatalf("%s is not in the hosts file", name)
		}
	}
}

// client returns a running client of the keeper. stop ends it and returns the error of Run.
func (s *testKeeper) client(t *testing.T) (c *Client, stop func() error) {
	t.Helper()
	c, err := NewClient(t.Context(), s.peer, "test")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return c, func() error {
		cancel()
		return <-done
	}
}

var (
	web = netip.MustParseAddr("127.64.9.1")
	db  = netip.MustParseAddr("127.64.9.2")
)

// freePort returns a port that is free on all addresses.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

// silentKeeper returns a client, and the other end of its connection, which has
// sent a hello and nothing else.
func silentKeeper(t *testing.T) (c *Client, keeperEnd *net.UnixConn) {
	t.Helper()
	daemonEnd, keeperEnd := pair(t)
	if err := writeMessage(keeperEnd, response{Hello: &hello{Version: "1"}}); err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(t.Context(), daemonEnd, "1")
	if err != nil {
		t.Fatal(err)
	}
	return c, keeperEnd
}

// A client can set names, ports and aliases. When it ends, the keeper restores the machine.
func TestKeeper(t *testing.T) {
	s := startKeeper(t.Context(), t)
	c, stop := s.client(t)
	ports := listen.New(c)
	at := netip.AddrPortFrom(web, freePort(t))
	if portErrors := ports.Set(t.Context(), []netip.AddrPort{at}); len(portErrors) > 0 {
		t.Fatalf("got port errors %v, want none", portErrors)
	}
	refused, err := c.Names().Set(t.Context(), map[netip.Addr][]string{web: {"web.shop", "mine", "localhost", "a\nb"}, netip.MustParseAddr("127.0.0.1"): {"api.shop"}})
	if err != nil || len(refused) != 3 {
		t.Errorf("got refused names %v and error %v, want 3 and none", refused, err)
	}
	if text := s.hosts(t); !strings.Contains(text, "127.64.9.1       web.shop ") || !strings.Contains(text, "127.0.0.1        api.shop ") {
		t.Errorf("got hosts file %q, want lines for web.shop and api.shop", text)
	}
	if err := c.Aliases().Set(t.Context(), []netip.Addr{web}); err != nil {
		t.Error(err)
	}
	client, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := ports.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.LocalAddr().String(); got != at.String() {
		t.Fatalf("got local address %s, want %s", got, at)
	}
	// The keeper has no copy of the socket: once the client closes it, the port is closed.
	if err := ports.Close(); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", at.String()); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("dial after close: got error %v, want %v", err, unix.ECONNREFUSED)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
	if got := s.hosts(t); got != original {
		t.Errorf("got hosts file %q, want %q", got, original)
	}
}

// Many sockets arrive in several messages, in order.
func TestKeeperManySockets(t *testing.T) {
	s := startKeeper(t.Context(), t)
	c, stop := s.client(t)
	port := freePort(t)
	want := make([]netip.AddrPort, 0, 3*rightsPerByte+7)
	for i := range cap(want) {
		want = append(want, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 64, byte(10 + i>>8), byte(i)}), port))
	}
	sockets, portErrors, err := c.Take(t.Context(), want, nil)
	if err != nil || len(portErrors) > 0 || len(sockets) != len(want) {
		t.Fatalf("got %d sockets, port errors %v, error %v, want %d sockets", len(sockets), portErrors, err, len(want))
	}
	for _, socket := range sockets {
		if got := socket.Addr().String(); got != socket.For.String() {
			t.Errorf("the socket for %s listens at %s", socket.For, got)
		}
		if err := socket.Close(); err != nil {
			t.Error(err)
		}
	}
	if sockets, _, err := c.Take(t.Context(), want, want); err != nil || len(sockets) != 0 {
		t.Errorf("second call: got %d sockets, error %v, want none", len(sockets), err)
	}
	if err := errors.Join(stop(), <-s.ended); err != nil {
		t.Error(err)
	}
}

// The client is notified when another program changes the hosts file.
func TestKeeperNotifiesChanges(t *testing.T) {
	s := startKeeper(t.Context(), t)
	c, stop := s.client(t)
	names := c.Names()
	<-names.Changed()
	table := map[netip.Addr][]string{web: {"web.shop"}}
	if _, err := names.Set(t.Context(), table); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path, []byte(original), 0o644); err != nil {
		t.Fatal(err)
	}
	<-names.Changed()
	if _, err := names.Set(t.Context(), table); err != nil || !strings.Contains(s.hosts(t), "web.shop") {
		t.Errorf("got error %v and hosts file %q, want no error and web.shop", err, s.hosts(t))
	}
	if err := errors.Join(stop(), <-s.ended); err != nil {
		t.Error(err)
	}
}

// A keeper that exits before its client restores the machine, and the client returns ErrGone.
func TestKeeperEndsFirst(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	s := startKeeper(ctx, t)
	c, err := NewClient(t.Context(), s.peer, "test")
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- c.Run(t.Context()) }()
	if _, err := c.Names().Set(t.Context(), map[netip.Addr][]string{web: {"web.shop"}}); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("the guard is dead")
	cancel(cause)
	if err := <-s.ended; !errors.Is(err, cause) {
		t.Errorf("Serve: got error %v, want %v", err, cause)
	}
	if err := <-ran; !errors.Is(err, ErrGone) {
		t.Errorf("Run: got error %v, want ErrGone", err)
	}
	if got := s.hosts(t); got != original {
		t.Errorf("got hosts file %q, want %q", got, original)
	}
	if _, err := c.Names().Set(t.Context(), map[netip.Addr][]string{db: {"db"}}); !errors.Is(err, ErrGone) {
		t.Errorf("setting a name: got error %v, want ErrGone", err)
	}
	if _, err := c.Names().Set(t.Context(), nil); err != nil {
		t.Errorf("setting no names: got error %v, want none", err)
	}
	if err := c.Aliases().Set(t.Context(), nil); err != nil {
		t.Errorf("setting no aliases: got error %v, want none", err)
	}
}

func TestNewClientRejectsFirstMessage(t *testing.T) {
	for want, first := range map[string]*response{
		"no hosts file":  {Hello: &hello{}, Error: "no hosts file"},
		"is not a hello": {Sequence: 1},
		"kubeshore 2":    {Hello: &hello{Version: "2"}},
		"handshake: EOF": nil, // the keeper closes the connection
	} {
		daemonEnd, keeperEnd := pair(t)
		if first == nil {
			_ = keeperEnd.Close()
		} else if err := writeMessage(keeperEnd, first); err != nil {
			t.Fatal(err)
		}
		if _, err := NewClient(t.Context(), daemonEnd, "1"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want one that contains %q", err, want)
		}
	}
}

func TestNewClientWithSilentKeeperTimesOut(t *testing.T) {
	daemonEnd, _ := pair(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := NewClient(ctx, daemonEnd, "1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v, want %v", err, context.DeadlineExceeded)
	}
}

// A daemon that closes the connection with unread data causes a reset, which is
// not an error.
func TestKeeperEndsAfterReset(t *testing.T) {
	s := startKeeper(t.Context(), t)
	if err := writeMessage(s.peer, request{Sequence: 1, Names: &map[netip.Addr][]string{web: {"web.shop"}}}); err != nil {
		t.Fatal(err)
	}
	s.waitForName(t, "web.shop")
	if err := s.peer.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-s.ended; err != nil || len(s.refused) > 0 || s.hosts(t) != original {
		t.Errorf("got error %v, reports %v and hosts file %q, want none and %q", err, s.refused, s.hosts(t), original)
	}
}

// A request that exceeds the size limit isn't sent, and the next one works.
func TestClientRejectsLargeRequest(t *testing.T) {
	s := startKeeper(t.Context(), t)
	c, stop := s.client(t)
	_, err := c.Names().Set(t.Context(), map[netip.Addr][]string{web: {strings.Repeat("a", maxMessage)}})
	if err == nil || errors.Is(err, ErrGone) || !strings.Contains(err.Error(), "exceeds the limit") {
		t.Errorf("got error %v, want one that contains %q", err, "exceeds the limit")
	}
	if _, err := c.Names().Set(t.Context(), map[netip.Addr][]string{web: {"web.shop"}}); err != nil {
		t.Error(err)
	}
	if err := errors.Join(stop(), <-s.ended); err != nil {
		t.Error(err)
	}
}

func TestErrGoneHasReason(t *testing.T) {
	c, keeperEnd := silentKeeper(t)
	if _, err := keeperEnd.Write(binary.BigEndian.AppendUint32(nil, maxMessage+1)); err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); !errors.Is(err, ErrGone) || !strings.Contains(err.Error(), "malformed") {
		t.Errorf("got error %v, want ErrGone with %q", err, "malformed")
	}
}

// The keeper applies the policy of its own command line, name by name, and the
// daemon learns of it.
func TestKeeperAppliesItsNamePolicy(t *testing.T) {
	s := startKeeper(t.Context(), t)
	c, stop := s.client(t)
	table := map[netip.Addr][]string{
		web: {"web.shop.svc.cluster.local", "web.dev", "web.shop", "github.com", "wpad", "build", "vpn.shop", "web"},
	}
	refused, err := c.Names().Set(t.Context(), table)
	if err != nil {
		t.Fatal(err)
	}
	got := slices.Sorted(maps.Keys(refused))
	if want := []string{"build", "github.com", "vpn.shop", "web.dev", "wpad"}; !slices.Equal(got, want) {
		t.Errorf("got refused names %q, want %q", got, want)
	}
	if text := s.hosts(t); !strings.Contains(text, "web.shop.svc.cluster.local") || strings.Contains(text, "github") || strings.Contains(text, "wpad") {
		t.Errorf("got hosts file %q, want the permitted names alone", text)
	}
	if policy := c.NamePolicy(); !slices.Equal(policy.Patterns, []string{"*.shop", "!vpn.*"}) || policy.Full {
		t.Errorf("the daemon got %+v", policy)
	}
	refused, err = c.Names().Set(t.Context(), map[netip.Addr][]string{web: {"github.com"}})
	if err != nil || len(refused) != 1 || strings.Contains(s.hosts(t), "web") {
		t.Errorf("got %v, %v and hosts file %q, want no names", refused, err, s.hosts(t))
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// Names on an address of another keeper would take it away from that one.
func TestNamesMapToHeldAddressesOnly(t *testing.T) {
	held := netip.MustParseAddr("127.64.0.1")
	s := startKeeperThatHolds(t.Context(), t, func(addr netip.Addr) bool { return addr == held })
	c, stop := s.client(t)
	refused, err := c.Names().Set(t.Context(), map[netip.Addr][]string{
		held: {"web.shop"}, netip.MustParseAddr("127.64.0.2"): {"db.shop", "vpn.shop"}, netip.MustParseAddr("127.0.0.1"): {"local.shop"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := slices.Sorted(maps.Keys(refused)), []string{"db.shop", "vpn.shop"}; !slices.Equal(got, want) {
		t.Errorf("got %q refused, want %q", got, want)
	}
	if content := s.hosts(t); strings.Contains(content, "127.64.0.2") || !strings.Contains(content, "web.shop") || !strings.Contains(content, "local.shop") {
		t.Errorf("got hosts file %q, want the names of its own addresses only", content)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
}
