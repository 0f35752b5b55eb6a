//go:build linux || darwin

package keeper

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/pkg/listen"
	"github.com/kubeshore/kubeshore/pkg/loopback"
)

// A daemon that doesn't read holds up nobody who tells the keeper to end.
func TestKeeperWhosePeerDoesNotRead(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := serve(ctx, t)
	names := map[netip.Addr][]string{web: {"web.shop"}}
	for i := range 50_000 {
		at := netip.AddrFrom4([4]byte{127, 64, 10, byte(i)})
		names[at] = append(names[at], fmt.Sprintf("no_name_%d", i))
	}
	if err := writeMessage(s.peer, request{Sequence: 1, Names: &names}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(s.hosts(t), "web.shop"); {
		if time.Now().After(deadline) {
			t.Fatal("the names aren't set")
		}
	}
	cancel()
	if err := <-s.ended; err == nil {
		t.Error("it ends as if it had been answered")
	}
	if text := s.hosts(t); text != original {
		t.Errorf("the hosts file has %q", text)
	}
}

// A keeper that doesn't read holds up nobody who has no patience.
func TestClientWhoseKeeperDoesNotRead(t *testing.T) {
	c, theirs := greeted(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	names := map[netip.Addr][]string{web: {strings.Repeat("a", 4<<20)}}
	done := make(chan error, 1)
	go func() {
		_, err := c.Names().Set(ctx, names)
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("it is set")
		}
	case <-time.After(2 * byeTime):
		_ = theirs.Close()
		<-done
		t.Fatal("it waits for the keeper without end")
	}
	if _, err := c.Names().Set(t.Context(), map[netip.Addr][]string{web: {"web"}}); !errors.Is(err, ErrGone) {
		t.Errorf("after half a request: %v", err)
	}
}

// An answer that nobody waits for any more keeps nothing from being seen.
func TestClientSeesTheEndBehindALateAnswer(t *testing.T) {
	c, theirs := greeted(t)
	gone := make(chan error, 1)
	go func() { gone <- c.Run(t.Context()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := c.Aliases().Set(ctx, []netip.Addr{web}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if err := writeMessage(theirs, answer{Sequence: 1}); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-gone:
		if !errors.Is(err, ErrGone) {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the client doesn't see that the keeper is gone")
	}
}

// slowNames are names that take as long as whoever waits for them has patience.
type slowNames struct{ asked chan struct{} }

func (n slowNames) Set(ctx context.Context, table map[netip.Addr][]string) (map[string]error, error) {
	if len(table) == 0 {
		return nil, nil
	}
	close(n.asked)
	<-ctx.Done()
	return nil, ctx.Err()
}

func (slowNames) Changed() <-chan struct{} { return nil }

func (slowNames) Writes() uint64 { return 0 }

// A keeper sees that its daemon is gone while it does something for it.
func TestKeeperBusyWhenItsPeerEnds(t *testing.T) {
	ours, theirs := pair(t)
	names := slowNames{make(chan struct{})}
	k := &Keeper{
		Allowed: []netip.Prefix{loopback.DefaultPrefix}, Ports: listen.NewEach("test"), Names: names,
		Aliases: &loopback.Aliases{}, Refused: func(error) {},
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- k.Serve(ctx, ours) }()
	if err := writeMessage(theirs, request{Sequence: 1, Names: &map[netip.Addr][]string{web: {"web"}}}); err != nil {
		t.Fatal(err)
	}
	<-names.asked
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(2 * time.Second):
		t.Error("it goes on")
		cancel()
		<-ended
	}
}
