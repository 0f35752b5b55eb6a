package fwd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
)

const (
	// settle is how long changes are gathered: one write of the hosts file
	// then serves a burst of them.
	settle = 50 * time.Millisecond
	// retryAfter is when a fault of this machine (a port in use, a hosts file
	// that can't be written) is tried again.
	retryAfter = 5 * time.Second
	// drainTime is how long open connections may go on once the engine stops.
	drainTime = time.Second
	// cleanupTime bounds how long each part may take to restore the machine.
	cleanupTime = 10 * time.Second
)

// Engine keeps this machine as the plan wants it and carries connections. All
// exported fields must be set before Run, and not changed after.
type Engine struct {
	Options   Options
	Source    Source
	Dialer    Dialer
	Addresses Addresses
	Aliases   Aliases
	Ports     Ports
	Names     Names
	Log       logrus.FieldLogger

	routes atomic.Pointer[routes] // what connections are carried by; written by the reconcile loop alone
	status atomic.Pointer[Status]
}

// Status returns what stands now. Anyone may call it at any time.
func (e *Engine) Status() Status {
	if s := e.status.Load(); s != nil {
		return *s
	}
	return Status{}
}

// Run makes the machine as the plan wants it and keeps it so until ctx ends;
// then it takes everything back: names, then ports, then, when open
// connections have ended or had a moment to, addresses. When abort ends they
// get no such moment. Run closes Ports. It returns nil if it was asked to end
// and the machine is as it was before. It must be called once.
func (e *Engine) Run(ctx, abort context.Context) error {
	e.routes.Store(&routes{})
	connections, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	running, stop := context.WithCancel(ctx)
	defer stop()

	var carrying errgroup.Group
	carrying.Go(func() error {
		defer stop() // nothing more can be accepted: no use in going on
		return e.carry(connections)
	})
	err := e.reconcile(running)
	return errors.Join(err, e.restore(ctx, func() error {
		defer context.AfterFunc(abort, cut)()
		defer time.AfterFunc(drainTime, cut).Stop()
		return carrying.Wait()
	}))
}

// restore takes everything back, in the order in which a program meets it.
// Each part has its own time, so that one that hangs doesn't cost the others'.
func (e *Engine) restore(ctx context.Context, drain func() error) error {
	within := func(part func(context.Context) error) error {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
		defer cancel()
		return part(limited)
	}
	return errors.Join(
		within(func(ctx context.Context) error { _, err := e.Names.Set(ctx, nil); return err }),
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
		complete, err := e.apply(ctx, Plan(e.Source.Snapshot(), e.Options))
		switch {
		case err != nil && first:
			return err
		case err != nil && err.Error() != fault:
			e.Log.Errorf("%v; trying again every %v", err, retryAfter)
		case err == nil && fault != "":
			e.Log.Info("this machine is as it should be again")
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
	select {
	case <-ctx.Done():
		return false
	case <-retry:
	case <-e.Source.Changed():
		if !first {
			select {
			case <-ctx.Done():
			case <-time.After(settle):
			}
		}
	}
	return ctx.Err() == nil
}

// apply makes the machine as hosts want it. Going up, the order is address,
// port, name; coming down, name, port, address: so a name never points at
// nothing of ours. After an error more may stand than is wanted, never less
// than the names in force need. It says whether all is as it should be.
func (e *Engine) apply(ctx context.Context, hosts []Host) (complete bool, err error) {
	addresses, err := e.assign(hosts)
	if err != nil {
		return false, err
	}
	old := *e.routes.Load()
	want := newRoutes(hosts, addresses, old)
	both := want.union(old)
	if err := e.Aliases.Set(ctx, both.addresses()); err != nil {
		return false, fmt.Errorf("loopback addresses: %w", err)
	}
	e.routes.Store(&both)
	faults := e.Ports.Set(ctx, both.ports())

	status := newStatus(hosts, addresses, faults)
	refused, err := e.Names.Set(ctx, status.names())
	if err != nil {
		return false, err
	}
	status.drop(refused)
	if len(both) > len(want) {
		e.Ports.Set(ctx, want.ports())
		if err := e.Aliases.Set(ctx, want.addresses()); err != nil {
			return false, fmt.Errorf("loopback addresses: %w", err)
		}
	}
	e.routes.Store(&want)
	report(e.Log, e.Status(), status)
	e.status.Store(&status)
	return len(faults) == 0, nil
}

// assign gives an address to each host that answers on any port.
func (e *Engine) assign(hosts []Host) (map[HostID]netip.Addr, error) {
	keys := make([]string, 0, len(hosts))
	for _, h := range hosts {
		if len(h.Ports) > 0 {
			keys = append(keys, h.ID.Key())
		}
	}
	byKey, err := e.Addresses.Assign(keys)
	if err != nil {
		return nil, err
	}
	addresses := make(map[HostID]netip.Addr, len(byKey))
	for _, h := range hosts {
		if address, ok := byKey[h.ID.Key()]; ok {
			addresses[h.ID] = address
		}
	}
	return addresses, nil
}
