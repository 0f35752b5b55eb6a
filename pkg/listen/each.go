package listen

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"
)

// Each takes a socket for each address and port. A port that a program has on all
// addresses can't be had, and while one is taken no program can have it on all.
type Each struct {
	why string

	mu    sync.Mutex
	taken map[netip.AddrPort]bool
}

// NewEach returns an Each that has taken nothing yet. why says why it is in use.
func NewEach(why string) *Each { return &Each{why: why, taken: make(map[netip.AddrPort]bool)} }

// How is that of a Taker.
func (e *Each) How() string { return fmt.Sprintf("a socket for each port (%s)", e.why) }

// Take is that of a Taker.
func (e *Each) Take(ctx context.Context, want []netip.AddrPort) (taken []Socket, faults map[netip.AddrPort]error, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	wanted := make(map[netip.AddrPort]bool, len(want))
	for _, at := range want {
		wanted[at] = true
	}
	maps.DeleteFunc(e.taken, func(at netip.AddrPort, _ bool) bool { return !wanted[at] })
	faults = make(map[netip.AddrPort]error)
	var listening holders
	for _, at := range want {
		if e.taken[at] {
			continue
		}
		l, err := listenTCP(ctx, at)
		if err != nil {
			faults[at] = explain(at, err, &listening)
			continue
		}
		e.taken[at] = true
		taken = append(taken, Socket{at, l})
	}
	return taken, faults, nil
}

// explain says in a line why an address and port can't be had.
func explain(at netip.AddrPort, err error, listening *holders) error {
	switch {
	case errors.Is(err, errInUse):
		return fmt.Errorf("port %d of %v is in use by %s", at.Port(), at.Addr(), listening.find(at))
	case errors.Is(err, errNoRight):
		return fmt.Errorf("port %d of %v needs root", at.Port(), at.Addr())
	}
	return err
}

// Close has nothing to do: the sockets are their callers'.
func (*Each) Close() error { return nil }
