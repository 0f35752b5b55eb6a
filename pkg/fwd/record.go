package fwd

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// sayAfter is how long after a line about a port's connections the next one may
// be logged. What breaks connections off can be another text each time.
const sayAfter = time.Minute

// record is what is remembered of a host's port.
type record struct {
	counter counter

	mu     sync.Mutex
	turn   int       // whose turn it is among the targets
	lastTo *past     // where the last connection went
	lastAt time.Time // when
	said   time.Time // when a line about a connection was last logged
	fault  fault     // what keeps connections from reaching a process
}

// fault is a reason for which a connection did not reach a process, as the
// user is told.
type fault struct {
	at   *past // where; nil if it is no single pod's
	text string
}

// maySay tells whether a line about a connection may be logged now, and notes
// that it is.
func (r *record) maySay(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.said.IsZero() && now.Sub(r.said) < sayAfter {
		return false
	}
	r.said = now
	return true
}

// blame notes a fault, and tells whether that changes the problem. The first
// one stands as long as no connection works and its pod is there: pods that
// fail in turn, each with words of its own, would else be news each time.
func (r route) blame(f fault) bool {
	r.record.mu.Lock()
	defer r.record.mu.Unlock()
	if r.current(r.record.fault) {
		return false
	}
	r.record.fault = f
	return true
}

// works notes that a connection was answered, and tells whether a problem is
// gone with that.
func (r route) works() bool {
	r.record.mu.Lock()
	defer r.record.mu.Unlock()
	news := r.record.fault.text != ""
	r.record.fault = fault{}
	return news
}

// problem returns why connections don't reach a process, in a line; empty if
// they do, or if that is not known.
func (r route) problem() string {
	if r.record == nil {
		return ""
	}
	r.record.mu.Lock()
	defer r.record.mu.Unlock()
	if !r.current(r.record.fault) {
		return ""
	}
	return r.record.fault.text
}

// current tells whether there is a fault whose pod is still a target.
func (r route) current(f fault) bool {
	return f.text != "" && (f.at == nil || slices.ContainsFunc(r.targets, func(d destination) bool { return d.past == f.at }))
}

// newFault says in a line why a connection to a host's port didn't reach a
// process, and what to do about it. There is none if the whole cluster is away.
func newFault(port uint16, d destination, err error) (fault, bool) {
	var unreached *UnreachedError
	errors.As(err, &unreached)
	switch {
	case unreached != nil && unreached.Why == ClusterAway:
		return fault{}, false
	case unreached != nil && unreached.Why == Denied:
		return fault{text: oneLine(err)}, true
	case unreached != nil && unreached.Why == PortClosed:
		return fault{at: d.past, text: fmt.Sprintf("port %d: nothing listens on port %d of pod %v; if its process listens on the pod's address only, "+
			"it can't be reached: let it listen on 0.0.0.0 or 127.0.0.1", port, d.Port, d.Pod)}, true
	}
	return fault{at: d.past, text: fmt.Sprintf("port %d: pod %v: %s", port, d.Pod, oneLine(err))}, true
}
