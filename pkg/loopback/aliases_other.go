//go:build !darwin

package loopback

import (
	"context"
	"net/netip"
)

// Aliases makes addresses reachable on this machine. Linux and Windows answer on
// all of 127.0.0.0/8, so it does nothing. The zero value is ready to use.
type Aliases struct{}

// Set makes addrs the set of aliases.
func (*Aliases) Set(context.Context, []netip.Addr) error { return nil }

// CleanAliases does nothing: there are no aliases.
func CleanAliases(context.Context, []netip.Addr) error { return nil }
