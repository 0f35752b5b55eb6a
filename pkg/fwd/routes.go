package fwd

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/kubeshore/kubeshore/pkg/plan"
)

// freshTime is how long a pod counts as having just become ready: its process
// may not listen yet if nothing (a readiness probe) made sure of it.
const freshTime = 10 * time.Second

// table holds the routes that connections are carried by. The reconcile loop
// alone stores; anyone may load.
type table struct{ now atomic.Pointer[routing] }

// routing is what a table holds at one moment.
type routing struct {
	routes   routes
	replaced chan struct{} // closed when it is no longer what the table holds
}

func (t *table) load() *routing { return t.now.Load() }

func (t *table) store(r routes) {
	if old := t.now.Swap(&routing{routes: r, replaced: make(chan struct{})}); old != nil {
		close(old.replaced)
	}
}

// routes says where connections go, by the address and port that they were
// made to. Nobody changes it once it is in use.
type routes map[netip.AddrPort]route

type route struct {
	host     plan.HostID
	affinity time.Duration
	targets  []destination
	// record outlives the route: the next plan's route of the same host and
	// port goes on with it.
	record *record
	// common is the same for all routes of the host, as long as there are any.
	common *common
}

// common is what is remembered of a host, whichever of its ports it was.
type common struct {
	counter counter
	denied  atomic.Bool // the way to its pods is, as the last connection has found
}

// place is where a target is.
type place struct {
	pod  plan.PodRef
	port uint16
}

// destination is a target and what is known of it here.
type destination struct {
	plan.Target
	since time.Time // when it became ready; zero if it was when the run began
	past  *past     // as long as the target is in the plans
}

// past is what connections have learned about a target. All routes of a host that lead
// there have the same.
type past struct {
	open   atomic.Int32 // connections that go there now
	worked atomic.Bool  // one was answered
	closed atomic.Bool  // the last one was refused, or the pod was not there
	barred atomic.Bool  // the last one has failed by it, whatever it tried
}

// fresh tells whether the target has just become ready.
func (d destination) fresh(now time.Time) bool {
	return d.Ready && !d.since.IsZero() && now.Sub(d.since) < freshTime
}

// newRoutes returns the routes of the hosts that have an address, which go on
// from old where it has them. Targets that are ready now and were not in old
// have been so since the time given.
func newRoutes(hosts []plan.Host, addresses map[plan.HostID]netip.Addr, old routes, since time.Time) routes {
	r := make(routes)
	remembered := old.remembered()
	for _, h := range hosts {
		address, ok := addresses[h.ID]
		if !ok {
			continue
		}
		of, ok := remembered[h.ID]
		if !ok {
			of = memory{new(common), make(map[place]destination)}
		}
		for _, p := range h.Ports {
			at := netip.AddrPortFrom(address, p.Number)
			before := old[at]
			if before.host != h.ID {
				before = route{record: new(record)}
			}
			r[at] = route{
				host: h.ID, affinity: h.AffinityTimeout, record: before.record, common: of.common,
				targets: of.destinations(p.Targets, since),
			}
		}
	}
	return r
}

// memory is what is remembered of a host from one plan to the next.
type memory struct {
	common *common
	known  map[place]destination
}

// remembered returns what is of the hosts that have routes.
func (r routes) remembered() map[plan.HostID]memory {
	all := make(map[plan.HostID]memory)
	for _, route := range r {
		of, ok := all[route.host]
		if !ok {
			of = memory{route.common, make(map[place]destination, len(route.targets))}
			all[route.host] = of
		}
		for _, d := range route.targets {
			of.known[place{d.Pod, d.Port}] = d
		}
	}
	return all
}

// destinations returns the targets with what is known of them, and notes that.
func (m memory) destinations(targets []plan.Target, since time.Time) []destination {
	result := make([]destination, len(targets))
	for i, t := range targets {
		d, ok := m.known[place{t.Pod, t.Port}]
		if !ok {
			d.past = new(past)
		}
		if t.Ready && !d.Ready {
			d.since = since
			d.past.barred.Store(false) // it may be another process
		}
		d.Target = t
		m.known[place{t.Pod, t.Port}] = d
		result[i] = d
	}
	return result
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

// candidates returns the targets that a new connection may go to: the ready
// ones, or, if there are none, those that still serve while their pod
// terminates (KEP-1669). One of these that has once refused is done for: in a
// sandbox that is being taken apart the next connection may hang.
func (r route) candidates() []destination {
	usable := make([]destination, 0, len(r.targets))
	for _, d := range r.targets {
		if d.Ready {
			usable = append(usable, d)
		}
	}
	if len(usable) > 0 {
		return usable
	}
	for _, d := range r.targets {
		if d.Serving && d.Terminating && !d.past.closed.Load() {
			usable = append(usable, d)
		}
	}
	return usable
}

// choose takes one of the destinations given, of which there must be one, for a
// new connection, which counts as open from then on. Within the affinity's time
// it is the last connection's, if that is among them.
func (r route) choose(b Balance, usable []destination, now time.Time) destination {
	r.record.mu.Lock()
	defer r.record.mu.Unlock()
	d := r.record.last(usable, r.affinity, now)
	if d.past == nil {
		d = r.record.balance(b, usable)
	}
	r.record.lastTo, r.record.lastAt = d.past, now
	d.past.open.Add(1)
	return d
}

// last returns where the last connection went, or nothing if that is not among
// the destinations or is longer ago than affinity. mu must be held.
func (r *record) last(usable []destination, affinity time.Duration, now time.Time) destination {
	i := slices.IndexFunc(usable, func(d destination) bool { return d.past == r.lastTo })
	if i < 0 || now.Sub(r.lastAt) >= affinity {
		return destination{}
	}
	return usable[i]
}

// balance takes one of the destinations; those that are equally good, in turn.
// mu must be held.
func (r *record) balance(b Balance, usable []destination) destination {
	first := r.turn % len(usable)
	r.turn++
	usable = slices.Concat(usable[first:], usable[:first])
	switch b {
	case Least:
		return slices.MinFunc(usable, func(a, b destination) int { return cmp.Compare(a.past.open.Load(), b.past.open.Load()) })
	case First:
		return slices.MinFunc(usable, func(a, b destination) int { return cmp.Compare(a.Pod.Name, b.Pod.Name) })
	case RoundRobin:
	}
	return usable[0]
}
