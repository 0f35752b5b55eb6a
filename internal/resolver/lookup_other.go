//go:build !linux

package resolver

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// Lookup returns the IPv4 addresses of a name. On macOS and Windows, Go's resolver
// calls getaddrinfo or its equivalent, also without cgo. The error is ErrNotFound or,
// when ctx ends, that of ctx, or another one if the resolver failed.
func Lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", name)
	if failure := new(net.DNSError); errors.As(err, &failure) && failure.IsNotFound {
		return nil, ErrNotFound
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, err
}
