// Package loopback assigns a loopback address to each service, and makes the
// addresses reachable on operating systems where they aren't by default.
package loopback

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// DefaultPrefix is the default range of services' addresses: a quarter of
// 127.0.0.0/8 (RFC 1122, 3.2.1.3) that no other program is known to use.
var DefaultPrefix = netip.MustParsePrefix("127.64.0.0/10")

var (
	loopbackPrefix = netip.MustParsePrefix("127.0.0.0/8")
	// systemPrefix has 127.0.0.1, and the addresses that resolvers and
	// distributions use (127.0.0.53, 127.0.1.1).
	systemPrefix = netip.MustParsePrefix("127.0.0.0/16")
)

// reuseGrace is how long an address stays reserved for a key that is not in use
// any more: programs may still have the address from resolving the old name.
const reuseGrace = 10 * time.Minute

// Pool assigns addresses to keys. An address is derived from its key, so a
// service has the same address in every run. If the addresses of two keys
// collide, the key that came later, or sorts later, gets the next free address,
// which is saved in the [Store]. A Pool is not safe for concurrent use.
type Pool struct {
	prefix      netip.Prefix // the range of automatic addresses
	ranges      []netip.Prefix
	size        uint32 // the usable addresses of prefix: all but the first and the last
	owner       string
	store       *Store
	byKey       map[string]netip.Addr
	unusedSince map[string]time.Time // the keys of byKey that are not in use any more
}

// NewPool returns a Pool of the addresses in ranges, each of which must pass
// [CheckPrefix]. Automatic addresses come from the first range. The same key has
// different addresses for different owners. A nil store is like one that is
// always empty.
func NewPool(ranges []netip.Prefix, owner string, store *Store) (*Pool, error) {
	if len(ranges) == 0 {
		return nil, errors.New("no address range")
	}
	for _, prefix := range ranges {
		if err := CheckPrefix(prefix); err != nil {
			return nil, err
		}
	}
	prefix := ranges[0].Masked()
	return &Pool{
		prefix: prefix, ranges: slices.Clone(ranges), size: 1<<(32-prefix.Bits()) - 2, owner: owner, store: store,
		byKey: make(map[string]netip.Addr), unusedSince: make(map[string]time.Time),
	}, nil
}

// CheckPrefix returns an error unless services may use the addresses of prefix:
// it must be within 127.0.0.0/8 and outside 127.0.0.0/16, and have room for at
// least 254 services.
func CheckPrefix(prefix netip.Prefix) error {
	switch {
	case !prefix.Addr().Is4() || !loopbackPrefix.Contains(prefix.Addr()) || prefix.Bits() < loopbackPrefix.Bits():
		return fmt.Errorf("address range %v is not within %v", prefix, loopbackPrefix)
	case prefix.Overlaps(systemPrefix):
		return fmt.Errorf("address range %v overlaps %v, which is reserved for the system; use e.g. %v", prefix, systemPrefix, DefaultPrefix)
	case prefix.Bits() > 24:
		return fmt.Errorf("address range %v is too small: must be /24 or larger", prefix)
	}
	return nil
}

// CheckAddress returns an error unless a user may choose the address for a service.
func CheckAddress(address netip.Addr) error {
	if !address.Is4() || !loopbackPrefix.Contains(address) || systemPrefix.Contains(address) {
		return fmt.Errorf("invalid address %v: must be within %v and outside %v, which is reserved for the system", address, loopbackPrefix, systemPrefix)
	}
	return nil
}

// UsableRanges returns ranges that together have all addresses that services may use.
func UsableRanges() []netip.Prefix {
	var ranges []netip.Prefix
	for bits := systemPrefix.Bits(); bits > loopbackPrefix.Bits(); bits-- { // the other half of each larger range
		half := systemPrefix.Addr().As4()
		half[1] = 1 << (systemPrefix.Bits() - bits)
		ranges = append(ranges, netip.PrefixFrom(netip.AddrFrom4(half), bits))
	}
	return ranges
}

// Assign returns a different address for each key. The value of a key is the
// address that is reserved for it, or the zero Addr for an automatic address; an
// automatic address doesn't change from call to call. problems has the keys that
// can't have an address: theirs is reserved for another key or outside the
// ranges, or the prefix is full. Addresses of keys that are not in keys become
// free after ten minutes.
func (p *Pool) Assign(keys map[string]netip.Addr) (assigned map[string]netip.Addr, problems map[string]error) {
	p.expireUnused(keys, time.Now())
	problems = make(map[string]error)
	assigned = make(map[string]netip.Addr, len(keys)+len(p.unusedSince))
	keyOf := make(map[netip.Addr]string, len(keys)+len(p.unusedSince))
	assign := func(key string, addr netip.Addr) bool {
		if _, ok := keyOf[addr]; ok {
			return false
		}
		assigned[key], keyOf[addr] = addr, key
		return true
	}
	sorted := slices.Sorted(maps.Keys(keys))
	for _, key := range sorted {
		switch reserved := keys[key]; {
		case !reserved.IsValid():
		case !slices.ContainsFunc(p.ranges, func(r netip.Prefix) bool { return r.Contains(reserved) }):
			problems[key] = fmt.Errorf("address %v is not in %v; restart with a range that includes it, e.g. --cidr %v,%v",
				reserved, p.ranges, p.prefix, netip.PrefixFrom(reserved, 24).Masked())
		case !assign(key, reserved):
			problems[key] = fmt.Errorf("address %v is already reserved for %s", reserved, keyOf[reserved])
		}
	}
	for key, addr := range p.byKey {
		if !keys[key].IsValid() && (p.prefix.Contains(addr) || !p.unusedSince[key].IsZero()) {
			assign(key, addr)
		}
	}
	free := int(p.size)
	for addr := range keyOf {
		if p.prefix.Contains(addr) {
			free--
		}
	}
	displaced := make(map[string]netip.Addr) // by ownedKey
	for _, key := range sorted {
		if assigned[key].IsValid() || problems[key] != nil {
			continue
		}
		if free <= 0 {
			problems[key] = fmt.Errorf("no free address: all %d addresses of %v are in use; use a larger range (--cidr)", p.size, p.prefix)
			continue
		}
		free--
		if addr, ok := p.store.lookup(p.ownedKey(key)); ok && p.prefix.Contains(addr) && assign(key, addr) {
			displaced[p.ownedKey(key)] = addr
			continue
		}
		if p.assignDerived(key, assign) {
			displaced[p.ownedKey(key)] = assigned[key]
		}
	}
	p.store.save(displaced)
	p.byKey = maps.Clone(assigned)
	maps.DeleteFunc(assigned, func(key string, _ netip.Addr) bool { return !p.unusedSince[key].IsZero() })
	return assigned, problems
}

// expireUnused records the keys that are not in use any more, and removes those
// whose grace period is over. If the prefix is too small for all of them, it
// removes them right away.
func (p *Pool) expireUnused(keys map[string]netip.Addr, now time.Time) {
	for key := range keys {
		delete(p.unusedSince, key)
	}
	for key := range p.byKey {
		_, used := keys[key]
		switch since, unused := p.unusedSince[key]; {
		case used:
		case !unused:
			p.unusedSince[key] = now
		case now.Sub(since) >= reuseGrace:
			delete(p.unusedSince, key)
			delete(p.byKey, key)
		}
	}
	if len(keys)+len(p.unusedSince) <= int(p.size) {
		return
	}
	for key := range p.unusedSince {
		delete(p.byKey, key)
	}
	clear(p.unusedSince)
}

// assignDerived assigns the address that is derived from a key, or the next free
// one. It reports whether it had to choose the latter.
func (p *Pool) assignDerived(key string, assign func(string, netip.Addr) bool) (displaced bool) {
	index := p.derivedIndex(key)
	for !assign(key, p.addr(index)) {
		index = (index + 1) % p.size
		displaced = true
	}
	return displaced
}

func (p *Pool) ownedKey(key string) string { return p.owner + "/" + key }

// derivedIndex returns the index of the address that is derived from a key.
func (p *Pool) derivedIndex(key string) uint32 {
	sum := sha256.Sum256([]byte(p.ownedKey(key)))
	return binary.BigEndian.Uint32(sum[:4]) % p.size
}

// addr returns the address at an index; index 0 is the prefix's second address.
func (p *Pool) addr(index uint32) netip.Addr {
	base := p.prefix.Addr().As4()
	var addr [4]byte
	binary.BigEndian.PutUint32(addr[:], binary.BigEndian.Uint32(base[:])+1+index)
	return netip.AddrFrom4(addr)
}
