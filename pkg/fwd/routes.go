package fwd

import (
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
)

// routes says where connections go, by the address and port that they were
// made to. Nobody changes it once it is in use.
type routes map[netip.AddrPort]route

type route struct {
	host    HostID
	targets []Target
	// record outlives the route: the next plan's route of the same address and
	// port goes on with it.
	record *record
}

// record is what is remembered of an address and port.
type record struct {
	next atomic.Uint32 // whose turn it is among the targets
	said atomic.Value  // a string: the last fault that was logged
}

// news tells whether a fault is another than the last. The empty fault, which
// says that a connection went well, is never news.
func (r *record) news(fault string) bool {
	last, _ := r.said.Swap(fault).(string)
	return fault != "" && fault != last
}

// newRoutes returns the routes of the hosts that have an address, which go on
// from old where it has them.
func newRoutes(hosts []Host, addresses map[HostID]netip.Addr, old routes) routes {
	r := make(routes)
	for _, h := range hosts {
		address, ok := addresses[h.ID]
		if !ok {
			continue
		}
		for _, p := range h.Ports {
			at := netip.AddrPortFrom(address, p.Number)
			remembered := old[at].record
			if remembered == nil {
				remembered = new(record)
			}
			r[at] = route{host: h.ID, targets: p.Targets, record: remembered}
		}
	}
	return r
}

// union returns the routes of both; where both have one, r's.
func (r routes) union(other routes) routes {
	all := maps.Clone(other)
	maps.Copy(all, r)
	return all
}

func (r routes) ports() []netip.AddrPort {
	return slices.SortedFunc(maps.Keys(r), netip.AddrPort.Compare)
}

func (r routes) addresses() []netip.Addr {
	addresses := make([]netip.Addr, 0, len(r))
	for _, at := range r.ports() {
		addresses = append(addresses, at.Addr())
	}
	return slices.Compact(addresses)
}

// candidates returns the targets that a new connection may go to, in the order
// in which to try them: the ready ones in turn, or, if there are none, those
// that still serve while their pod terminates (KEP-1669).
func (r route) candidates() []Target {
	usable := make([]Target, 0, len(r.targets))
	for _, t := range r.targets {
		if t.Ready {
			usable = append(usable, t)
		}
	}
	if len(usable) == 0 {
		for _, t := range r.targets {
			if t.Serving && t.Terminating {
				usable = append(usable, t)
			}
		}
	}
	if len(usable) == 0 {
		return nil
	}
	first := (r.record.next.Add(1) - 1) % uint32(len(usable))
	return slices.Concat(usable[first:], usable[:first])
}
