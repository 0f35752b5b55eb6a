package fwd

import "slices"

// PortStatus is the state of one port of a host.
type PortStatus struct {
	Number uint16
	Err    error // why the port isn't bound; nil if it is
	Reach  Reach
}

// Reach is whether connections to a port reach a pod.
type Reach int

// The values of Reach.
const (
	// Reachable means that a pod is ready, and that no connection to it failed last.
	Reachable Reach = iota
	// NotReady means that no pod is ready.
	NotReady
	// NoTarget means that no pod has the port.
	NoTarget
	// Unreachable means that the most recent connections to every pod failed.
	Unreachable
)

// reach returns the Reach of a port whose host has the given number of pods. failing is
// whether there is a reason why connections to a port of the host fail.
func (r route) reach(pods int, failing bool) Reach {
	switch {
	case len(r.targets) == 0 && pods > 0:
		return NoTarget
	case !slices.ContainsFunc(r.targets, func(d destination) bool { return d.Ready }):
		return NotReady
	case failing && r.unreachable():
		return Unreachable
	}
	return Reachable
}
