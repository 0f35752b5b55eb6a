//go:build !darwin

package loopback

import (
	"context"
	"net/netip"
)

// Aliases makes addresses reachable on this machine. Linux and Windows answer
// on all of 127.0.0.0/8, so there is nothing to do. The zero value is ready.
type Aliases struct{}

// Set makes addrs the whole set of the aliases that are ours.
func (*Aliases) Set(context.Context, []netip.Addr) error { return nil }

// CleanAliases has nothing to take away.
func CleanAliases(context.Context, []netip.Addr) error { return nil }
