package fwd

import (
	"cmp"
	"slices"
	"time"
)

// candidates returns the targets for new connections: the ready ones or, if
// there are none, those that are still serving while their pod terminates
// (KEP-1669). A terminating target that has refused a connection is excluded:
// while its sandbox is torn down, the next connection may hang.
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
		if d.Serving && d.Terminating && !d.state.refused.Load() {
			usable = append(usable, d)
		}
	}
	return usable
}

// choose returns one of the destinations, of which there must be at least one,
// for a new connection, and counts the connection as open. Within the affinity
// timeout it is that of the last connection, if still usable.
func (r route) choose(b Balance, usable []destination, now time.Time) destination {
	r.portState.mu.Lock()
	defer r.portState.mu.Unlock()
	d, ok := r.portState.lastLocked(usable, r.affinityTimeout, now)
	if !ok {
		d = r.portState.balanceLocked(b, usable)
	}
	r.portState.lastTarget, r.portState.lastChosen = d.state, now
	d.state.open.Add(1)
	return d
}

// lastLocked returns the destination of the last connection, unless it is no
// longer usable or the affinity has timed out. mu must be held.
func (p *portState) lastLocked(usable []destination, affinityTimeout time.Duration, now time.Time) (destination, bool) {
	i := slices.IndexFunc(usable, func(d destination) bool { return d.state == p.lastTarget })
	if i < 0 || now.Sub(p.lastChosen) >= affinityTimeout {
		return destination{}, false
	}
	return usable[i], true
}

// balanceLocked returns one of the destinations, rotating between equally good
// ones. mu must be held.
func (p *portState) balanceLocked(b Balance, usable []destination) destination {
	first := p.nextTarget % len(usable)
	p.nextTarget++
	usable = slices.Concat(usable[first:], usable[:first])
	switch b {
	case LeastConnections:
		return slices.MinFunc(usable, func(a, b destination) int { return cmp.Compare(a.state.open.Load(), b.state.open.Load()) })
	case FirstByName:
		return slices.MinFunc(usable, func(a, b destination) int { return cmp.Compare(a.Pod.Name, b.Pod.Name) })
	case RoundRobin:
	}
	return usable[0]
}
