package fwd

import (
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/kubeshore/kubeshore/internal/wake"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// newlyReadyWindow is how long a pod counts as newly ready. Without a readiness
// probe its process may not listen yet.
const newlyReadyWindow = 10 * time.Second

// routeTable holds the current routes. Only the reconcile loop stores; any goroutine
// may load.
type routeTable struct {
	current  atomic.Pointer[routes]
	replaced wake.Broadcast
}

// load returns the current routes; nil before the first store.
func (t *routeTable) load() routes {
	if r := t.current.Load(); r != nil {
		return *r
	}
	return nil
}

func (t *routeTable) store(r routes) {
	t.current.Store(&r)
	t.replaced.Fire()
}

// routes maps the address and port that clients connect to, to a route. It is
// immutable once in use.
type routes map[netip.AddrPort]route

// route is where connections to one port of a host go.
type route struct {
	host            plan.HostID
	affinityTimeout time.Duration
	targets         []destination
	denied          bool // plan.Host.Denied is set
	// portState is carried over to the route of the same host and port in the
	// next plan.
	portState *portState
	// hostState is shared by all routes of the host, and carried over as long as
	// there are any.
	hostState *hostState
}

// hostState is the state of a host that is independent of its port.
type hostState struct {
	counter counter
	denied  atomic.Bool // the last connection was Denied
}

// podPort identifies a target.
type podPort struct {
	pod  plan.PodRef
	port uint16
}

// destination is a target with its state.
type destination struct {
	plan.Target
	readySince time.Time    // zero if it was ready when the engine started
	state      *targetState // shared by all routes of the host, and carried over
}

// targetState is the state of a target, as observed by its connections.
type targetState struct {
	open        atomic.Int32 // number of open connections
	answered    atomic.Bool  // a connection was answered
	refused     atomic.Bool  // the last connection failed with PortClosed or PodGone
	unreachable atomic.Bool  // the last connection failed, with any error
}

// newlyReady reports whether the target has become ready within
// newlyReadyWindow.
func (d destination) newlyReady(now time.Time) bool {
	return d.Ready && !d.readySince.IsZero() && now.Sub(d.readySince) < newlyReadyWindow
}

// newRoutes returns the routes of the hosts that have an address, with the state
// of old carried over. readySince applies to targets that are ready now and were
// not in old.
func newRoutes(hosts []plan.Host, addresses map[plan.HostID]netip.Addr, old routes, readySince time.Time) routes {
	r := make(routes)
	carried := old.carryOver()
	for _, h := range hosts {
		address, ok := addresses[h.ID]
		if !ok {
			continue
		}
		state, ok := carried[h.ID]
		if !ok {
			state = carryOver{new(hostState), make(map[podPort]destination)}
		}
		for _, p := range h.Ports {
			at := netip.AddrPortFrom(address, p.Number)
			before := old[at]
			if before.host != h.ID {
				before = route{portState: new(portState)}
			}
			if before.denied && h.Denied == "" {
				state.hostState.denied.Store(false) // the permission was granted meanwhile
			}
			r[at] = route{
				host: h.ID, affinityTimeout: h.AffinityTimeout, denied: h.Denied != "", portState: before.portState, hostState: state.hostState,
				targets: state.destinations(p.Targets, readySince),
			}
		}
	}
	return r
}

// carryOver is the state of a host that is kept from one plan to the next.
type carryOver struct {
	hostState *hostState
	byTarget  map[podPort]destination
}

// carryOver returns the state of all hosts that have routes.
func (r routes) carryOver() map[plan.HostID]carryOver {
	all := make(map[plan.HostID]carryOver)
	for _, rt := range r {
		state, ok := all[rt.host]
		if !ok {
			state = carryOver{rt.hostState, make(map[podPort]destination, len(rt.targets))}
			all[rt.host] = state
		}
		for _, d := range rt.targets {
			state.byTarget[podPort{d.Pod, d.Port}] = d
		}
	}
	return all
}

// destinations returns the targets with their state, and adds new ones to
// byTarget, so that all ports of the host share their state.
func (c carryOver) destinations(targets []plan.Target, readySince time.Time) []destination {
	result := make([]destination, len(targets))
	for i, t := range targets {
		d, ok := c.byTarget[podPort{t.Pod, t.Port}]
		if !ok {
			d.state = new(targetState)
		}
		if t.Ready && !d.Ready {
			d.readySince = readySince
			d.state.unreachable.Store(false) // it may be a new process
		}
		d.Target = t
		c.byTarget[podPort{t.Pod, t.Port}] = d
		result[i] = d
	}
	return result
}

// union returns the routes of both. Those of r take precedence.
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
