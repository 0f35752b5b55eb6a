// Package loopback decides which loopback address each service has, and makes
// the addresses reachable where the operating system needs to be told.
package loopback

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// DefaultPrefix is where services' addresses are: a quarter of 127.0.0.0/8
// (RFC 1122, 3.2.1.3) that nothing else is known to use.
var DefaultPrefix = netip.MustParsePrefix("127.64.0.0/10")

var loopback = netip.MustParsePrefix("127.0.0.0/8")

// Pool assigns addresses of one prefix. An address follows from its key, so a
// service has the same one on every run; if two keys meet at one address, the
// one that came later, or else sorts later, has the next that is free. A Pool
// is not safe for concurrent use.
type Pool struct {
	prefix netip.Prefix
	size   uint32 // usable addresses; the first and the last of the prefix are not
	byKey  map[string]netip.Addr
}

// NewPool returns a pool of the addresses in prefix, which must lie within
// 127.0.0.0/8 and have room for at least 254 services.
func NewPool(prefix netip.Prefix) (*Pool, error) {
	prefix = prefix.Masked()
	if !prefix.Addr().Is4() || !loopback.Contains(prefix.Addr()) || prefix.Bits() < loopback.Bits() {
		return nil, fmt.Errorf("address range %v: not within %v", prefix, loopback)
	}
	if prefix.Bits() > 24 {
		return nil, fmt.Errorf("address range %v: too small, take /24 or larger", prefix)
	}
	return &Pool{prefix: prefix, size: 1<<(32-prefix.Bits()) - 2}, nil
}

// Assign returns an address for each key, different for different keys, and
// the same for a key as the last time. Addresses of keys that are not in keys
// are free again.
func (p *Pool) Assign(keys []string) (map[string]netip.Addr, error) {
	if len(keys) > int(p.size) {
		return nil, fmt.Errorf("address range %v: %d services, room for %d", p.prefix, len(keys), p.size)
	}
	assigned := make(map[string]netip.Addr, len(keys))
	taken := make(map[netip.Addr]bool, len(keys))
	for _, key := range keys {
		if addr, ok := p.byKey[key]; ok {
			assigned[key] = addr
			taken[addr] = true
		}
	}
	for _, key := range slices.Sorted(slices.Values(keys)) {
		if _, ok := assigned[key]; ok {
			continue
		}
		at := p.preferred(key)
		for taken[p.addr(at)] {
			at = (at + 1) % p.size
		}
		assigned[key] = p.addr(at)
		taken[p.addr(at)] = true
	}
	p.byKey = assigned
	return assigned, nil
}

// preferred returns the place in the prefix that follows from the key.
func (p *Pool) preferred(key string) uint32 {
	sum := sha256.Sum256([]byte(key))
	return binary.BigEndian.Uint32(sum[:4]) % p.size
}

// addr returns the address at a place, 0 being the prefix's second address.
func (p *Pool) addr(place uint32) netip.Addr {
	base := p.prefix.Addr().As4()
	var addr [4]byte
	binary.BigEndian.PutUint32(addr[:], binary.BigEndian.Uint32(base[:])+1+place)
	return netip.AddrFrom4(addr)
}
