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

// blame notes a fault, which may be all candidates', and tells whether that changes
// what the Status says. The first one stands as long as no connection works and its
// pod is there: pods that fail in turn, each with words of its own, would else be news
// each time.
func (r route) blame(f fault, all bool) bool {
	r.record.mu.Lock()
	defer r.record.mu.Unlock()
	stood, barred := r.current(r.record.fault), r.barred()
	if f.at == nil {
		r.common.denied.Store(true)
	} else {
		f.at.barred.Store(true)
	}
	if all {
		for _, d := range r.candidates() {
			d.past.barred.Store(true)
		}
	}
	if !stood {
		r.record.fault = f
	}
	return !stood || r.barred() != barred
}

// works notes that a connection to a target was answered, and tells whether a problem
// is gone with that.
func (r route) works(to *past) bool {
	to.worked.Store(true)
	barred, denied := to.barred.Swap(false), r.common.denied.Swap(false)
	r.record.mu.Lock()
	defer r.record.mu.Unlock()
	news := r.record.fault.text != ""
	r.record.fault = fault{}
	return news || barred || denied
}

// barred tells whether no connection gets to a process, as far as those have found
// that were made last.
func (r route) barred() bool {
	usable := r.candidates()
	isOpen := func(d destination) bool { return !d.past.barred.Load() }
	return r.common.denied.Load() || len(usable) > 0 && !slices.ContainsFunc(usable, isOpen)
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

// current tells whether there is a fault that no connection has disproved, and whose pod
// is still a target.
func (r route) current(f fault) bool {
	switch {
	case f.text == "":
		return false
	case f.at == nil:
		return r.common.denied.Load()
	}
	return f.at.barred.Load() && slices.ContainsFunc(r.targets, func(d destination) bool { return d.past == f.at })
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
