//go:build linux || darwin

package keeper

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/kubeshore/kubeshore/pkg/hosts"
	"github.com/kubeshore/kubeshore/pkg/listen"
	"github.com/kubeshore/kubeshore/pkg/loopback"
)

func TestMain(m *testing.M) {
	if os.Getenv(guardEnv) != "" {
		guardForTest()
	}
	goleak.VerifyTestMain(m)
}

const original = "127.0.0.1 localhost\n192.0.2.1 mine\n"

// pair returns the two ends of a connection.
func pair(t *testing.T) (ours, theirs *net.UnixConn) {
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

// served is a keeper that serves, with a hosts file of its own.
type served struct {
	path    string
	peer    *net.UnixConn // the daemon's end
	ended   chan error
	mu      sync.Mutex
	refused []string
}

// serve has a keeper serve until the test ends.
func serve(ctx context.Context, t *testing.T) *served {
	t.Helper()
	s := &served{path: filepath.Join(t.TempDir(), "hosts"), ended: make(chan error, 1)}
	if err := os.WriteFile(s.path, []byte(original), 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := hosts.Open(s.path, "1000")
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := pair(t)
	s.peer = theirs
	k := &Keeper{
		Version: "test", Allowed: []netip.Prefix{loopback.DefaultPrefix},
		Ports: listen.NewEach("test"), Names: file, Aliases: &loopback.Aliases{},
		Refused: func(err error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.refused = append(s.refused, err.Error())
		},
	}
	watching, stop := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() { watched <- file.Run(watching) }()
	go func() {
		err := k.Serve(ctx, ours)
		stop()
		s.ended <- errors.Join(err, <-watched, file.Close(), ours.Close())
	}()
	t.Cleanup(func() { _ = theirs.Close() })
	return s
}

func (s *served) hosts(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// client returns the client of a keeper, running until the test ends it.
func (s *served) client(t *testing.T) (c *Client, stop func() error) {
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

// free returns a port that is free on all addresses.
func free(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

// greeted returns a client whose keeper has said hello and nothing else, and that end.
func greeted(t *testing.T) (c *Client, theirs *net.UnixConn) {
	t.Helper()
	ours, theirs := pair(t)
	if err := writeMessage(theirs, answer{Hello: &hello{Version: "1"}}); err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(t.Context(), ours, "1")
	if err != nil {
		t.Fatal(err)
	}
	return c, theirs
}

// Names and ports are had through a keeper as without one, and all is put back when
// the daemon ends.
func TestKeeper(t *testing.T) {
	s := serve(t.Context(), t)
	c, stop := s.client(t)
	ports := listen.New(c)
	at := netip.AddrPortFrom(web, free(t))
	if faults := ports.Set(t.Context(), []netip.AddrPort{at}); len(faults) > 0 {
		t.Fatal(faults)
	}
	refused, err := c.Names().Set(t.Context(), map[netip.Addr][]string{web: {"web.shop", "mine", "localhost", "a\nb"}, netip.MustParseAddr("127.0.0.1"): {"api.shop"}})
	if err != nil || len(refused) != 3 {
		t.Errorf("refused %v, %v", refused, err)
	}
	if text := s.hosts(t); !strings.Contains(text, "127.64.9.1       web.shop ") || !strings.Contains(text, "127.0.0.1        api.shop ") {
		t.Errorf("the hosts file has %q", text)
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
	if err != nil || conn.LocalAddr().String() != at.String() {
		t.Fatal(conn, err)
	}
	defer conn.Close()
	// The keeper has no copy of the socket: without ours nobody listens.
	if err := ports.Close(); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", at.String()); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("after it was closed: %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
	if text := s.hosts(t); text != original {
		t.Errorf("the hosts file has %q", text)
	}
}

// Many sockets come in several messages, each for what it is for.
func TestKeeperManySockets(t *testing.T) {
	s := serve(t.Context(), t)
	c, stop := s.client(t)
	port := free(t)
	want := make([]netip.AddrPort, 0, 3*rightsPerByte+7)
	for i := range cap(want) {
		want = append(want, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 64, byte(10 + i>>8), byte(i)}), port))
	}
	taken, faults, err := c.Take(t.Context(), want, nil)
	if err != nil || len(faults) > 0 || len(taken) != len(want) {
		t.Fatal(len(taken), faults, err)
	}
	for _, socket := range taken {
		if got := socket.Addr().String(); got != socket.For.String() {
			t.Errorf("the socket of %s listens at %s", socket.For, got)
		}
		if err := socket.Close(); err != nil {
			t.Error(err)
		}
	}
	if taken, _, err := c.Take(t.Context(), want, want); err != nil || len(taken) != 0 {
		t.Errorf("a second time it gives %d, %v", len(taken), err)
	}
	if err := errors.Join(stop(), <-s.ended); err != nil {
		t.Error(err)
	}
}

// What another program does to the hosts file the daemon is told.
func TestKeeperTellsOfChanges(t *testing.T) {
	s := serve(t.Context(), t)
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
		t.Error(s.hosts(t), err)
	}
	if err := errors.Join(stop(), <-s.ended); err != nil {
		t.Error(err)
	}
}

// A keeper that ends first is ErrGone, and what it did is taken back.
func TestKeeperEndsFirst(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	s := serve(ctx, t)
	c, err := NewClient(t.Context(), s.peer, "test")
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- c.Run(t.Context()) }()
	if _, err := c.Names().Set(t.Context(), map[netip.Addr][]string{web: {"web.shop"}}); err != nil {
		t.Fatal(err)
	}
	why := errors.New("the guard is dead")
	cancel(why)
	if err := <-s.ended; !errors.Is(err, why) {
		t.Errorf("the keeper ends with %v", err)
	}
	if err := <-gone; !errors.Is(err, ErrGone) {
		t.Errorf("the client ends with %v", err)
	}
	if text := s.hosts(t); text != original {
		t.Errorf("the hosts file has %q", text)
	}
	if _, err := c.Names().Set(t.Context(), map[netip.Addr][]string{db: {"db"}}); !errors.Is(err, ErrGone) {
		t.Errorf("setting names says %v", err)
	}
	if _, err := c.Names().Set(t.Context(), nil); err != nil {
		t.Errorf("there is nothing to take back, but %v", err)
	}
	if err := c.Aliases().Set(t.Context(), nil); err != nil {
		t.Errorf("there is nothing to take back, but %v", err)
	}
}

func TestNewClientRefuses(t *testing.T) {
	for want, a := range map[string]answer{
		"no hosts file":  {Hello: &hello{}, Error: "no hosts file"},
		"without a":      {Sequence: 1},
		"kubeshore 2":    {Hello: &hello{Version: "2"}},
		"doesn't begin:": {},
	} {
		ours, theirs := pair(t)
		if want == "doesn't begin:" {
			_ = theirs.Close()
		} else if err := writeMessage(theirs, a); err != nil {
			t.Fatal(err)
		}
		if _, err := NewClient(t.Context(), ours, "1"); err == nil || !strings.Contains(strings.Replace(err.Error(), "doesn't begin with a", "without a", 1), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// A keeper that doesn't begin is waited for no longer than there is patience.
func TestNewClientOfASilentKeeper(t *testing.T) {
	ours, _ := pair(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := NewClient(ctx, ours, "1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// The end of a daemon that hasn't read all is an end like another.
func TestKeeperEndsWithUnread(t *testing.T) {
	s := serve(t.Context(), t)
	if err := writeMessage(s.peer, request{Sequence: 1, Names: &map[netip.Addr][]string{web: {"web.shop"}}}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(s.hosts(t), "web.shop"); {
		if time.Now().After(deadline) {
			t.Fatal("the names aren't set")
		}
	}
	if err := s.peer.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-s.ended; err != nil || len(s.refused) > 0 || s.hosts(t) != original {
		t.Errorf("it ends with %v, logged %v, and left %q", err, s.refused, s.hosts(t))
	}
}

// What is too much for one message isn't asked for, and isn't the end.
func TestClientAsksTooMuch(t *testing.T) {
	s := serve(t.Context(), t)
	c, stop := s.client(t)
	_, err := c.Names().Set(t.Context(), map[netip.Addr][]string{web: {strings.Repeat("a", maxMessage)}})
	if err == nil || errors.Is(err, ErrGone) || !strings.Contains(err.Error(), "is larger than") {
		t.Error(err)
	}
	if _, err := c.Names().Set(t.Context(), map[netip.Addr][]string{web: {"web.shop"}}); err != nil {
		t.Error(err)
	}
	if err := errors.Join(stop(), <-s.ended); err != nil {
		t.Error(err)
	}
}

// That the keeper can't be understood is said, beside that it is gone.
func TestClientSaysWhyItIsGone(t *testing.T) {
	c, theirs := greeted(t)
	if _, err := theirs.Write(binary.BigEndian.AppendUint32(nil, maxMessage+1)); err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); !errors.Is(err, ErrGone) || !strings.Contains(err.Error(), "malformed") {
		t.Error(err)
	}
}
