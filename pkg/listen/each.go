package listen

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
)

// Each takes a socket for each address and port. A port that a program has on all
// addresses can't be had, and while one is taken no program can have it on all.
type Each struct{ why string }

// NewEach returns an Each. why says why it is in use.
func NewEach(why string) *Each { return &Each{why} }

// How is that of a Taker.
func (e *Each) How() string { return fmt.Sprintf("a socket for each port (%s)", e.why) }

// Take is that of a Taker.
func (*Each) Take(ctx context.Context, want, have []netip.AddrPort) (taken []Socket, faults map[netip.AddrPort]error, err error) {
	done := make(map[netip.AddrPort]bool, len(want))
	for _, at := range have {
		done[at] = true
	}
	faults = make(map[netip.AddrPort]error)
	var listening holders
	for _, at := range want {
		if done[at] {
			continue
		}
		done[at] = true
		l, err := listenTCP(ctx, at)
		if err != nil {
			faults[at] = explain(at, err, &listening)
			continue
		}
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
		return fmt.Errorf("port %d of %v %s", at.Port(), at.Addr(), noRight)
	}
	return err
}

// Close has nothing to do: the sockets are their callers'.
func (*Each) Close() error { return nil }
