package listen

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Each is a [Taker] that opens one socket per address and port. A port that
// another program listens on at all addresses isn't available, and no program
// can listen at all addresses on a port that Each has opened.
type Each struct{ reason string }

// NewEach returns an Each. How reports reason: why this Taker is in use.
func NewEach(reason string) *Each { return &Each{reason} }

// How implements [Taker].
func (e *Each) How() string { return fmt.Sprintf("one socket per port (%s)", e.reason) }

// minReservedFiles is how many files a process can at least open apart from the sockets
// of ports: connections, the hosts file, the connection to the keeper.
const minReservedFiles = 256

// maxSockets returns how many sockets for ports a process with a limit of open files may
// have. Without the rest it could neither accept connections nor write names.
func maxSockets(fileLimit int) int { return max(fileLimit-max(minReservedFiles, fileLimit/4), 0) }

// Take implements [Taker]. If there are more ports than the process may have sockets,
// addresses with few ports come first.
func (*Each) Take(ctx context.Context, want, existing []netip.AddrPort) (sockets []Socket, portErrors map[netip.AddrPort]error, err error) {
	done := make(map[netip.AddrPort]bool, len(want))
	for _, at := range existing {
		done[at] = true
	}
	limit := fileLimit()
	room := maxSockets(limit) - len(existing)
	portErrors = make(map[netip.AddrPort]error)
	var finder processFinder
	for _, at := range smallHostsFirst(want) {
		if done[at] {
			continue
		}
		done[at] = true
		if room <= len(sockets) {
			portErrors[at] = fmt.Errorf("too many ports for one socket each with %d open files; raise the limit (ulimit -n), or use --listen lookup", limit)
			continue
		}
		l, err := listenTCP(ctx, at)
		if err != nil {
			portErrors[at] = explain(at, err, &finder)
			continue
		}
		sockets = append(sockets, Socket{at, l})
	}
	return sockets, portErrors, nil
}

// smallHostsFirst returns the ports of addresses with few ports before those of others.
func smallHostsFirst(ports []netip.AddrPort) []netip.AddrPort {
	count := make(map[netip.Addr]int)
	for _, at := range ports {
		count[at.Addr()]++
	}
	return slices.SortedStableFunc(slices.Values(ports), func(a, b netip.AddrPort) int { return cmp.Compare(count[a.Addr()], count[b.Addr()]) })
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
