package fwd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/internal/netaddr"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

const (
	// settle is how long changes are gathered: one write of the hosts file
	// then serves a burst of them.
	settle = 50 * time.Millisecond
	// retryAfter is when a fault of this machine (a port in use, a hosts file
	// that can't be written) is tried again.
	retryAfter = 5 * time.Second
	// cutTime is how long they may take to notice that they were cut off.
	cutTime = 5 * time.Second
	// cleanupTime is what the parts are given to restore the machine.
	cleanupTime = 10 * time.Second
)

// Engine keeps this machine as the plan wants it and carries connections. All
// exported fields must be set before Run, and not changed after.
type Engine struct {
	// Options returns what the next plan is made with. When it has changed the
	// Source must say that something has.
	Options   func() plan.Options
	Source    Source
	Dialer    Dialer
	Addresses Addresses
	Aliases   Aliases
	Ports     Ports
	Names     Names // nil: hosts have none
	Log       logrus.FieldLogger

	// Hold is how long a connection waits, from when it was accepted, for a pod
	// that can take it; 0: not at all.
	Hold time.Duration
	// Balance is how a connection's pod is chosen.
	Balance Balance
	// Drain is how long open connections may go on once the engine stops.
	Drain time.Duration
	// Gone tells whether the client of an accepted connection, which has ended
	// its sending half, has let go of the connection altogether. It may be
	// false where that isn't known. If nil, that is never known.
	Gone func(net.Conn) bool

	// Meter is told what comes of connections. It may be nil.
	Meter Meter

	table  table // what connections are carried by
	status published
	poked  chan struct{} // receives when the routes have other problems than the status says
}

// Status returns what stands now. Anyone may call it at any time.
func (e *Engine) Status() Status {
	now, _ := e.status.load()
	return now
}

// Changed returns a channel that is closed when the Status is other than now. Anyone may
// call it at any time; who doesn't want to miss anything calls it before Status.
func (e *Engine) Changed() <-chan struct{} {
	_, changed := e.status.load()
	return changed
}

// Announce closes the channel of Changed, for who shows more than the Status. Anyone may
// call it at any time.
func (e *Engine) Announce() { e.status.announce() }

// Run makes the machine as the plan wants it and keeps it so until ctx ends;
// then it takes everything back: names, then ports, then, when open
// connections have ended or had a moment to, addresses. When abort ends they
// get no such moment. Run closes Ports. It returns nil if it was asked to end
// and the machine is as it was before. It must be called once.
func (e *Engine) Run(ctx, abort context.Context) error {
	e.table.store(routes{})
	e.poked = make(chan struct{}, 1)
	connections, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	running, stop := context.WithCancel(ctx)
	defer stop()

	forwarded := make(chan error, 1)
	go func() { forwarded <- e.forward(connections, stop) }()
	err := e.reconcile(running)
	return errors.Join(err, e.restore(ctx, func() error { return e.drain(abort, forwarded, cut) }))
}

// drain waits for the connections to end, cuts them off when their time is
// over or abort ends, and then waits for them a little longer.
func (e *Engine) drain(abort context.Context, forwarded <-chan error, cut func()) error {
	select {
	case err := <-forwarded:
		return err
	case <-abort.Done():
	case <-time.After(e.Drain):
	}
	cut()
	select {
	case err := <-forwarded:
		return err
	case <-time.After(cutTime):
		return errors.New("some connections to pods don't end; they end with this process")
	}
}

// restore takes everything back, in the order in which a program meets it.
func (e *Engine) restore(ctx context.Context, drain func() error) error {
	within := func(part func(context.Context) error) error {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
		defer cancel()
		return part(limited)
	}
	return errors.Join(
		within(func(ctx context.Context) error {
			_, err := e.name(ctx, nil)
			if err != nil {
				err = fmt.Errorf("the names are not taken back, the next start will try again: %w", err)
			}
			return err
		}),
		e.Ports.Close(),
		drain(),
		within(func(ctx context.Context) error { return e.Aliases.Set(ctx, nil) }),
	)
}

// reconcile plans and applies whenever the source has changed, and again after
// a while where this machine was at fault. An error of the first time is
// final: it then is not known that the machine can be changed at all.
func (e *Engine) reconcile(ctx context.Context) error {
	var retry <-chan time.Time
	var fault string
	for first := true; e.due(ctx, retry, first); first = false {
		complete, err := e.apply(ctx, plan.Plan(e.Source.Snapshot(), e.Options()))
		switch {
		case ctx.Err() != nil: // told to end meanwhile: what isn't done is no fault
			return nil //nolint:nilerr // see above
		case err != nil && first:
			return err
		case err != nil && err.Error() != fault:
			e.Log.Errorf("%v; trying again every %v", err, retryAfter)
		case err == nil && fault != "":
			e.Log.Infof("works again: %s", fault)
		case first:
			e.Log.Info("ready")
		}
		fault, retry = errorText(err), nil
		if !complete {
			retry = time.After(retryAfter)
		}
	}
	return nil
}

// due waits until there is something to do, and a moment longer for what may
// come with it, unless it is the first time. It returns false when ctx ended.
func (e *Engine) due(ctx context.Context, retry <-chan time.Time, first bool) bool {
	var renamed <-chan struct{}
	if e.Names != nil && !first {
		renamed = e.Names.Changed()
	}
	select {
	case <-ctx.Done():
		return false
	case <-retry:
		return ctx.Err() == nil
	case <-e.poked:
	case <-e.Source.Changed():
	case <-renamed:
	}
	if !first {
		select {
		case <-ctx.Done():
		case <-time.After(settle):
		}
	}
	return ctx.Err() == nil
}

// apply makes the machine as it is wanted. Going up, the order is address,
// port, name; coming down, name, port, address: so a name never points at
// nothing of ours. After an error more may stand than is wanted, never less
// than the names in force need. It says whether all is as it should be.
func (e *Engine) apply(ctx context.Context, want plan.Desired) (complete bool, err error) {
	addresses := e.assign(want.Hosts)
	old := e.table.load().routes
	readySince := time.Now()
	before := e.Status()
	if before.At.IsZero() {
		readySince = time.Time{} // nobody knows for how long
	}
	next := newRoutes(want.Hosts, addresses, old, readySince)
	both := next.union(old)
	e.table.store(both)
	if err := e.Aliases.Set(ctx, both.addresses()); err != nil {
		return false, fmt.Errorf("loopback addresses: %w", err)
	}
	faults := e.Ports.Set(ctx, both.ports())

	status := newStatus(want, addresses, faults, next)
	status.At = time.Now()
	status.Listening = e.Ports.How()
	if e.Names == nil {
		status.unnamed()
	}
	refused, err := e.name(ctx, status.names())
	if err != nil {
		return false, err
	}
	status.drop(refused)
	if len(both) > len(next) {
		e.Ports.Set(ctx, next.ports())
		if err := e.Aliases.Set(ctx, next.addresses()); err != nil {
			return false, fmt.Errorf("loopback addresses: %w", err)
		}
	}
	e.table.store(next)
	report(e.Log, before, status)
	e.status.store(status)
	return len(faults) == 0 && len(refused) == 0, nil
}

// name gives addresses their names.
func (e *Engine) name(ctx context.Context, table map[netip.Addr][]string) (refused map[string]error, err error) {
	if e.Names == nil {
		return nil, nil
	}
	return e.Names.Set(ctx, table)
}

// assign gives an address to each host that answers on any port. What keeps one
// from having it becomes its problem.
func (e *Engine) assign(hosts []plan.Host) map[plan.HostID]netip.Addr {
	keys := make(map[string]netip.Addr, len(hosts))
	for _, h := range hosts {
		if len(h.Ports) > 0 {
			keys[h.ID.Key()] = h.Address
		}
	}
	byKey, faults := e.Addresses.Assign(keys)
	addresses := make(map[plan.HostID]netip.Addr, len(byKey))
	for i := range hosts {
		h := &hosts[i]
		if address, ok := byKey[h.ID.Key()]; ok {
			addresses[h.ID] = address
		} else if h.Local {
			addresses[h.ID] = netaddr.Localhost
		}
		if err := faults[h.ID.Key()]; err != nil {
			h.Problems = append(h.Problems, err.Error())
		}
	}
	return addresses
}
