// Package loopback decides which loopback address each service has, and makes
// the addresses reachable where the operating system needs to be told.
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

// DefaultPrefix is where services' addresses are: a quarter of 127.0.0.0/8
// (RFC 1122, 3.2.1.3) that nothing else is known to use.
var DefaultPrefix = netip.MustParsePrefix("127.64.0.0/10")

var (
	loopback = netip.MustParsePrefix("127.0.0.0/8")
	// system is where 127.0.0.1 is, and what resolvers and distributions have
	// for themselves (127.0.0.53, 127.0.1.1).
	system = netip.MustParsePrefix("127.0.0.0/16")
)

// quarantine is how long an address is kept for a key that isn't used any more:
// somebody may still know it by the old name.
const quarantine = 10 * time.Minute

// Pool assigns addresses of one prefix. An address follows from its key, so a
// service has the same one on every run; if two keys meet at one address, the
// one that came later, or else sorts later, has the next that is free, and the
// memory remembers that. A Pool is not safe for concurrent use.
type Pool struct {
	prefix netip.Prefix // where those of the pool's own choice are
	ranges []netip.Prefix
	size   uint32 // usable addresses; the first and the last of the prefix are not
	owner  string
	memory *Memory
	byKey  map[string]netip.Addr
	gone   map[string]time.Time // keys of byKey that aren't used any more, and since when
}

// NewPool returns a pool of the addresses in ranges, each of which must pass
// CheckPrefix; the first one has those of the pool's own choice. Different owners
// have different addresses for the same key. memory may be nil: then it is as if
// it were always empty.
func NewPool(ranges []netip.Prefix, owner string, memory *Memory) (*Pool, error) {
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
		prefix: prefix, ranges: slices.Clone(ranges), size: 1<<(32-prefix.Bits()) - 2, owner: owner, memory: memory,
		byKey: make(map[string]netip.Addr), gone: make(map[string]time.Time),
	}, nil
}

// CheckPrefix tells whether services may have the addresses of prefix: it must
// lie within 127.0.0.0/8 and outside of 127.0.0.0/16, and have room for at least
// 254 services.
func CheckPrefix(prefix netip.Prefix) error {
	switch {
	case !prefix.Addr().Is4() || !loopback.Contains(prefix.Addr()) || prefix.Bits() < loopback.Bits():
		return fmt.Errorf("address range %v: not within %v", prefix, loopback)
	case prefix.Overlaps(system):
		return fmt.Errorf("address range %v: %v is the system's own; take another, like %v", prefix, system, DefaultPrefix)
	case prefix.Bits() > 24:
		return fmt.Errorf("address range %v: too small, take /24 or larger", prefix)
	}
	return nil
}

// CheckAddress tells whether a service may be given an address by its user.
func CheckAddress(address netip.Addr) error {
	if !address.Is4() || !loopback.Contains(address) || system.Contains(address) {
		return fmt.Errorf("address %v: must be within %v, and not within %v, which is the system's own", address, loopback, system)
	}
	return nil
}

// Usable returns the ranges of all addresses that services may have.
func Usable() []netip.Prefix {
	var ranges []netip.Prefix
	for bits := system.Bits(); bits > loopback.Bits(); bits-- { // the other half of each larger range
		half := system.Addr().As4()
		half[1] = 1 << (system.Bits() - bits)
		ranges = append(ranges, netip.PrefixFrom(netip.AddrFrom4(half), bits))
	}
	return ranges
}

// Assign returns an address for each key, different for different keys, and
// the same for a key as the last time: the one that it is given with, or, if
// that is the zero Addr, one of the pool's own choice; and why for those that
// can't have one: theirs is another's, or the prefix is full. Addresses of keys
// that are not in keys are free again ten minutes later.
func (p *Pool) Assign(keys map[string]netip.Addr) (assigned map[string]netip.Addr, faults map[string]error) {
	p.mark(keys, time.Now())
	faults = make(map[string]error)
	assigned = make(map[string]netip.Addr, len(keys)+len(p.gone))
	taken := make(map[netip.Addr]string, len(keys)+len(p.gone))
	give := func(key string, addr netip.Addr) bool {
		if _, ok := taken[addr]; ok {
			return false
		}
		assigned[key], taken[addr] = addr, key
		return true
	}
	names := slices.Sorted(maps.Keys(keys))
	for _, key := range names {
		switch wanted := keys[key]; {
		case !wanted.IsValid():
		case !slices.ContainsFunc(p.ranges, func(r netip.Prefix) bool { return r.Contains(wanted) }):
			faults[key] = fmt.Errorf("address %v is not in %v, which kubeshore was started with: add a range that has it, as --cidr %v,%v",
				wanted, p.ranges, p.prefix, netip.PrefixFrom(wanted, 24).Masked())
		case !give(key, wanted):
			faults[key] = fmt.Errorf("address %v is reserved for another service too: %s", wanted, taken[wanted])
		}
	}
	for key, addr := range p.byKey {
		if wanted := keys[key]; !wanted.IsValid() && (p.prefix.Contains(addr) || p.gone[key] != time.Time{}) {
			give(key, addr)
		}
	}
	free := int(p.size)
	for addr := range taken {
		if p.prefix.Contains(addr) {
			free--
		}
	}
	displaced := make(map[string]netip.Addr)
	for _, key := range names {
		if assigned[key].IsValid() || faults[key] != nil {
			continue
		}
		if free <= 0 {
			faults[key] = fmt.Errorf("no address: %v has room for %d; --cidr gives a larger range", p.prefix, p.size)
			continue
		}
		free--
		if addr, ok := p.memory.recall(p.owned(key)); ok && p.prefix.Contains(addr) && give(key, addr) {
			displaced[p.owned(key)] = addr
			continue
		}
		if p.find(key, give) {
			displaced[p.owned(key)] = assigned[key]
		}
	}
	p.memory.remember(displaced)
	p.byKey = maps.Clone(assigned)
	maps.DeleteFunc(assigned, func(key string, _ netip.Addr) bool { return !p.gone[key].IsZero() })
	return assigned, faults
}

// mark notes which keys are used, and forgets those that haven't been for long,
// sooner if there is no room for them.
func (p *Pool) mark(keys map[string]netip.Addr, now time.Time) {
	for key := range keys {
		delete(p.gone, key)
	}
	for key := range p.byKey {
		_, used := keys[key]
		switch since, gone := p.gone[key]; {
		case used:
		case !gone:
			p.gone[key] = now
		case now.Sub(since) >= quarantine:
			delete(p.gone, key)
			delete(p.byKey, key)
		}
	}
	if len(keys)+len(p.gone) <= int(p.size) {
		return
	}
	for key := range p.gone {
		delete(p.byKey, key)
	}
	clear(p.gone)
}

// find gives a key the address that follows from it, or the next that is free,
// and tells whether it is the latter.
func (p *Pool) find(key string, give func(string, netip.Addr) bool) (displaced bool) {
	at := p.preferred(key)
	for !give(key, p.addr(at)) {
		at = (at + 1) % p.size
		displaced = true
	}
	return displaced
}

func (p *Pool) owned(key string) string { return p.owner + "/" + key }

// preferred returns the place in the prefix that follows from the key.
func (p *Pool) preferred(key string) uint32 {
	sum := sha256.Sum256([]byte(p.owned(key)))
	return binary.BigEndian.Uint32(sum[:4]) % p.size
}

// addr returns the address at a place, 0 being the prefix's second address.
func (p *Pool) addr(place uint32) netip.Addr {
	base := p.prefix.Addr().As4()
	var addr [4]byte
	binary.BigEndian.PutUint32(addr[:], binary.BigEndian.Uint32(base[:])+1+place)
	return netip.AddrFrom4(addr)
}
