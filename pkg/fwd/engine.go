package fwd

import (
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/internal/wake"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// Engine keeps this machine in the desired state and forwards connections. The
// exported fields must be set before Run, and not changed afterwards.
type Engine struct {
	// Options returns the options for the next plan. When they change, Source
	// must signal a change.
	Options   func() plan.Options
	Source    Source
	Dialer    Dialer
	Addresses Addresses
	Aliases   Aliases
	Ports     Ports
	Names     Names // nil: hosts get no names
	Log       logrus.FieldLogger

	// HoldTimeout is how long a connection, once accepted, waits for a pod to
	// connect to; 0 resets it immediately if there is none.
	HoldTimeout time.Duration
	// Balance selects how a connection's pod is chosen.
	Balance Balance
	// DrainTimeout is how long open connections may continue after ctx ended.
	DrainTimeout time.Duration
	// ClientGone reports whether the client of an accepted connection, which has
	// closed its sending half, has closed the connection completely. It may
	// return false if that is unknown. If nil, it is never known.
	ClientGone func(net.Conn) bool

	// Meter receives measurements of connections. It may be nil.
	Meter Meter

	table         routeTable // the routes of new connections
	status        atomic.Pointer[Status]
	statusChanged wake.Broadcast
	// inForce is the table of names that Names last accepted, without the refused
	// ones. Only the reconcile loop uses it.
	inForce map[netip.Addr][]string
	replan  wake.Trigger // fires when problems of routes differ from the status
	// requested counts requestReplan's calls, published those whose result is in
	// the status.
	requested, published atomic.Uint64
}

// Status returns the current status. Any goroutine may call it at any time.
func (e *Engine) Status() Status {
	if now := e.status.Load(); now != nil {
		return *now
	}
	return Status{}
}

// Changed returns a channel that is closed when the Status has changed. A caller
// that must not miss a change calls it before Status. Any goroutine may call it
// at any time.
func (e *Engine) Changed() <-chan struct{} { return e.statusChanged.C() }

// NotifyChanged closes the channel of Changed. It is for programs that publish
// more than the Status. Any goroutine may call it at any time.
func (e *Engine) NotifyChanged() { e.statusChanged.Fire() }

// Traffic returns the traffic of each host since the host last appeared. Any
// goroutine may call it at any time.
func (e *Engine) Traffic() map[plan.HostID]Traffic {
	all := make(map[plan.HostID]Traffic)
	for _, r := range e.table.load() {
		if _, counted := all[r.host]; !counted { // with another of its ports
			all[r.host] = r.hostState.counter.traffic()
		}
	}
	return all
}

func (e *Engine) meter() Meter {
	if e.Meter == nil {
		return noMeter{}
	}
	return e.Meter
}
