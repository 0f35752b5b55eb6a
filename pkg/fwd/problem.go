package fwd

import (
	"errors"
	"slices"
	"sync"
	"time"
)

// connectionLogInterval is the minimum time between two log lines about
// connections to the same port: each error can have a different text.
const connectionLogInterval = time.Minute

// portState is the state of one port of a host.
type portState struct {
	mu         sync.Mutex
	nextTarget int          // for round-robin
	lastTarget *targetState // of the last connection
	lastChosen time.Time    // when lastTarget was chosen
	lastLogged time.Time    // when a line about a connection was last logged
	problem    problem      // zero if the port works, or if that is unknown
}

// problem is a reason why connections don't reach a process; without a cause, there
// is none.
type problem struct {
	target     *targetState // nil if it concerns all pods
	targetPort uint16       // the pod's; 0 if it concerns all pods
	cause      cause
}

// allowLog reports whether a line about a connection may be logged now, and if
// so starts the next connectionLogInterval.
func (p *portState) allowLog(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.lastLogged.IsZero() && now.Sub(p.lastLogged) < connectionLogInterval {
		return false
	}
	p.lastLogged = now
	return true
}

// recordFailure records a failed connection, and with all set that every
// candidate failed. It reports whether that changes the Status. The first
// problem is kept until a connection succeeds, its pod is gone or the cluster
// denies connections: otherwise pods that fail in turn, each with its own error,
// would change the Status each time.
func (r route) recordFailure(p problem, all bool) bool {
	r.portState.mu.Lock()
	defer r.portState.mu.Unlock()
	known, unreachable := r.isCurrent(r.portState.problem), r.unreachable()
	if p.target == nil {
		r.hostState.denied.Store(true)
	} else {
		p.target.unreachable.Store(true)
	}
	if all {
		for _, d := range r.candidates() {
			d.state.unreachable.Store(true)
		}
	}
	known = known && (p.target != nil || r.portState.problem.target == nil) // a denial comes first
	if !known {
		r.portState.problem = p
	}
	return !known || r.unreachable() != unreachable
}

// recordSuccess records that a target has answered a connection. It reports
// whether that resolves a problem.
func (r route) recordSuccess(target *targetState) bool {
	first := !target.answered.Swap(true)
	unreachable, denied := target.unreachable.Swap(false), r.hostState.denied.Swap(false)
	r.portState.mu.Lock()
	defer r.portState.mu.Unlock()
	resolved := r.portState.problem.cause != cause{}
	r.portState.problem = problem{}
	return resolved || unreachable || denied || first && r.denied
}

// unreachable reports whether the last connection to every candidate failed.
func (r route) unreachable() bool {
	usable := r.candidates()
	reachable := func(d destination) bool { return !d.state.unreachable.Load() }
	return r.hostState.denied.Load() || len(usable) > 0 && !slices.ContainsFunc(usable, reachable)
}

// problem returns why connections don't reach a process. It returns false if they do,
// or if that is unknown.
func (r route) problem() (problem, bool) {
	if r.portState == nil {
		return problem{}, false
	}
	r.portState.mu.Lock()
	defer r.portState.mu.Unlock()
	return r.portState.problem, r.isCurrent(r.portState.problem)
}

// isCurrent reports whether p is a problem that no later connection has
// resolved, and whose pod is still a target.
func (r route) isCurrent(p problem) bool {
	switch {
	case p.cause == cause{}:
		return false
	case p.target == nil:
		return r.hostState.denied.Load()
	}
	return p.target.unreachable.Load() && slices.ContainsFunc(r.targets, func(d destination) bool { return d.state == p.target })
}

// newProblem returns the problem of a connection to a destination that failed with
// err. An unreachable cluster is not a problem of the host.
func newProblem(d destination, err error) (problem, bool) {
	var unreached *UnreachedError
	errors.As(err, &unreached)
	switch {
	case unreached != nil && unreached.Reason == ClusterUnreachable:
		return problem{}, false
	case unreached != nil && unreached.Reason == Denied:
		return problem{cause: cause{kind: deniedCause, text: errorLine(err)}}, true
	case unreached != nil && unreached.Reason == PortClosed:
		return problem{d.state, d.Port, cause{kind: closedCause, pod: d.Pod}}, true
	}
	return problem{d.state, d.Port, cause{kind: podCause, pod: d.Pod, text: errorLine(err)}}, true
}
