//go:build linux || darwin

package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/pkg/listen"
	"github.com/kubeshore/kubeshore/pkg/loopback"
)

// A daemon that doesn't read responses doesn't keep the keeper from ending.
func TestKeeperEndsIfDaemonDoesNotRead(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := startKeeper(ctx, t)
	names := map[netip.Addr][]string{web: {"web.shop"}}
	for i := range 50_000 {
		at := netip.AddrFrom4([4]byte{127, 64, 10, byte(i)})
		names[at] = append(names[at], fmt.Sprintf("no_name_%d", i))
	}
	if err := writeMessage(s.peer, request{Sequence: 1, Names: &names}); err != nil {
		t.Fatal(err)
	}
	s.waitForName(t, "web.shop")
	cancel()
	if err := <-s.ended; err == nil {
		t.Error("got no error, want one: the response wasn't read")
	}
	if got := s.hosts(t); got != original {
		t.Errorf("got hosts file %q, want %q", got, original)
	}
}

// Requests to a stopped keeper fail after a timeout, however large and however many
// there are. Requests succeed again when the keeper continues.
func TestStoppedKeeperContinues(t *testing.T) {
	for name, size := range map[string]int{"small requests": 1 << 10, "requests larger than the socket's buffer": 4 << 20} {
		t.Run(name, func(t *testing.T) {
			c, keeperEnd := silentKeeper(t)
			ctx, cancel := context.WithCancel(t.Context())
			ran := make(chan error, 1)
			go func() { ran <- c.Run(ctx) }()
			c.responseTimeout = 10 * time.Millisecond
			names := map[netip.Addr][]string{web: {strings.Repeat("a", size)}}
			for range 20 {
				if _, err := c.Names().Set(t.Context(), names); !errors.Is(err, ErrUnresponsive) {
					t.Fatalf("stopped: got error %v, want %v", err, ErrUnresponsive)
				}
			}
			if _, _, err := c.Take(t.Context(), nil, nil); !errors.Is(err, ErrUnresponsive) {
				t.Errorf("stopped: got error %v, want %v", err, ErrUnresponsive)
			}

			requests := make(chan int, 1)
			go func() { requests <- respondToAll(keeperEnd) }()
			c.responseTimeout = 10 * time.Second
			if _, err := c.Names().Set(t.Context(), names); err != nil {
				t.Errorf("continued: got error %v, want none", err)
			}
			cancel()
			if err := <-ran; err != nil {
				t.Errorf("Run: got error %v, want none", err)
			}
			if got := <-requests; got != 2 {
				t.Errorf("the keeper got %d requests, want 2: the first one and the last one", got)
			}
		})
	}
}

// respondToAll responds to requests until the connection ends, closes it, and returns
// how many there were.
func respondToAll(conn *net.UnixConn) (requests int) {
	defer conn.Close()
	for {
		message, err := readMessage(conn)
		if err != nil {
			return requests
		}
		requests++
		r, err := decode(message)
		if err != nil || writeMessage(conn, response{Sequence: r.Sequence}) != nil {
			return requests
		}
	}
}

// A keeper that never reads the rest of a request doesn't keep Run from returning.
func TestClientEndsIfKeeperDoesNotRead(t *testing.T) {
	c, keeperEnd := silentKeeper(t)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- c.Run(ctx) }()
	c.responseTimeout = 10 * time.Millisecond
	names := map[netip.Addr][]string{web: {strings.Repeat("a", 4<<20)}}
	if _, err := c.Names().Set(t.Context(), names); !errors.Is(err, ErrUnresponsive) {
		t.Errorf("got error %v, want %v", err, ErrUnresponsive)
	}
	cancel()
	select {
	case err := <-ran:
		if err != nil {
			t.Errorf("Run: got error %v, want none", err)
		}
	case <-time.After(2 * closeGrace):
		_ = keeperEnd.Close()
		<-ran
		t.Fatalf("Run didn't return within %v", 2*closeGrace)
	}
	if _, err := c.Names().Set(t.Context(), names); !errors.Is(err, ErrGone) {
		t.Errorf("afterwards: got error %v, want ErrGone", err)
	}
}

// A response to a request whose context has ended doesn't block Run.
func TestClientDetectsEndAfterLateResponse(t *testing.T) {
	c, keeperEnd := silentKeeper(t)
	ran := make(chan error, 1)
	go func() { ran <- c.Run(t.Context()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := c.Aliases().Set(ctx, []netip.Addr{web}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got error %v, want %v", err, context.DeadlineExceeded)
	}
	if err := writeMessage(keeperEnd, response{Sequence: 1}); err != nil {
		t.Fatal(err)
	}
	if err := keeperEnd.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ran:
		if !errors.Is(err, ErrGone) {
			t.Errorf("got error %v, want ErrGone", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("Run didn't return within 5s of the keeper's end")
	}
}

// slowNames blocks in Set until the context ends.
type slowNames struct{ called chan struct{} }

func (n slowNames) Set(ctx context.Context, table map[netip.Addr][]string) (map[string]error, error) {
	if len(table) == 0 {
		return nil, nil
	}
	close(n.called)
	<-ctx.Done()
	return nil, ctx.Err()
}

func (slowNames) Changed() <-chan struct{} { return nil }

func (slowNames) Writes() uint64 { return 0 }

// The daemon's end interrupts a request.
func TestKeeperEndsDuringRequest(t *testing.T) {
	keeperEnd, daemonEnd := pair(t)
	names := slowNames{make(chan struct{})}
	k := &Keeper{
		Allowed: []netip.Prefix{loopback.DefaultPrefix}, Ports: listen.NewEach("test"), Names: names,
		Aliases: &loopback.Aliases{}, OnRefused: func(error) {},
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- k.Serve(ctx, keeperEnd) }()
	if err := writeMessage(daemonEnd, request{Sequence: 1, Names: &map[netip.Addr][]string{web: {"web"}}}); err != nil {
		t.Fatal(err)
	}
	<-names.called
	if err := daemonEnd.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(2 * time.Second):
		t.Error("the keeper didn't end within 2s of its daemon")
		cancel()
		<-ended
	}
}
