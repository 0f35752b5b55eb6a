package listen

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
)

// Each is a [Taker] that opens one socket per address and port. A port that
// another program listens on at all addresses isn't available, and no program
// can listen at all addresses on a port that Each has opened.
type Each struct{ reason string }

// NewEach returns an Each. How reports reason: why this Taker is in use.
func NewEach(reason string) *Each { return &Each{reason} }

// How implements [Taker].
func (e *Each) How() string { return fmt.Sprintf("one socket per port (%s)", e.reason) }

// Take implements [Taker].
func (*Each) Take(ctx context.Context, want, existing []netip.AddrPort) (sockets []Socket, portErrors map[netip.AddrPort]error, err error) {
	done := make(map[netip.AddrPort]bool, len(want))
	for _, at := range existing {
		done[at] = true
	}
	portErrors = make(map[netip.AddrPort]error)
	var finder processFinder
	for _, at := range want {
		if done[at] {
			continue
		}
		done[at] = true
		l, err := listenTCP(ctx, at)
		if err != nil {
			portErrors[at] = explain(at, err, &finder)
			continue
		}
		sockets = append(sockets, Socket{at, l})
	}
	return sockets, portErrors, nil
}

// explain returns an error that states why listenTCP failed.
func explain(at netip.AddrPort, err error, finder *processFinder) error {
	switch {
	case errors.Is(err, errInUse):
		return fmt.Errorf("in use by %s", finder.find(at))
	case errors.Is(err, errNotPermitted):
		return errors.New(notPermitted)
	}
	return err
}

// Close does nothing: the callers of Take own the sockets.
func (*Each) Close() error { return nil }
