package fwd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/kubeshore/kubeshore/internal/cleanup"
	"github.com/kubeshore/kubeshore/internal/wake"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

const (
	// batchWindow is how long changes are collected before they are applied
	// together, with one write of the hosts file.
	batchWindow = 50 * time.Millisecond
	// machineRetryInterval is the delay before errors of this machine, such as a
	// port in use or a read-only hosts file, are retried.
	machineRetryInterval = 5 * time.Second
	// abortGrace is how long connections may take to end after they were
	// aborted.
	abortGrace = 5 * time.Second
)

// Run applies the desired state until ctx ends. Then it restores the machine: it
// removes the names, closes Ports, lets open connections end for up to
// DrainTimeout or until abort ends, and removes the addresses. Run returns nil
// if it was stopped by ctx and the machine is restored. It must be called once.
func (e *Engine) Run(ctx, abort context.Context) error {
	e.table.store(routes{})
	e.replan = wake.NewTrigger()
	connections, abortConnections := context.WithCancel(context.WithoutCancel(ctx))
	defer abortConnections()
	reconciling, stop := context.WithCancel(ctx)
	defer stop()

	forwarded := make(chan error, 1)
	go func() { forwarded <- e.forward(connections, stop) }()
	err := e.reconcile(reconciling)
	return errors.Join(err, e.restore(ctx, func() error { return e.drain(abort, forwarded, abortConnections) }))
}

// drain waits until all connections have ended. It aborts them after
// DrainTimeout, or when abort ends.
func (e *Engine) drain(abort context.Context, forwarded <-chan error, abortConnections func()) error {
	select {
	case err := <-forwarded:
		return err
	case <-abort.Done():
	case <-time.After(e.DrainTimeout):
	}
	abortConnections()
	select {
	case err := <-forwarded:
		return err
	case <-time.After(abortGrace):
		return errors.New("some connections to pods are still open; they end with this process")
	}
}

// restore restores the machine in the reverse order of apply: names, ports,
// addresses.
func (e *Engine) restore(ctx context.Context, drain func() error) error {
	return errors.Join(
		cleanup.Run(ctx, func(ctx context.Context) error {
			if _, err := e.setNames(ctx, nil); err != nil {
				return fmt.Errorf("remove names (the next start will retry): %w", err)
			}
			return nil
		}),
		e.Ports.Close(),
		drain(),
		cleanup.Run(ctx, func(ctx context.Context) error { return e.Aliases.Set(ctx, nil) }),
	)
}

// reconcile plans and applies whenever something has changed, and retries after
// errors of this machine. An error of the first pass is final: it is then
// unknown whether the machine can be changed at all.
func (e *Engine) reconcile(ctx context.Context) error {
	var retry <-chan time.Time
	var lastErr string
	for first := true; e.awaitChange(ctx, retry, first); first = false {
		complete, err := e.apply(ctx, plan.Plan(e.Source.Snapshot(), e.Options()))
		switch {
		case ctx.Err() != nil: // stopped meanwhile: an incomplete pass is not an error
			return nil //nolint:nilerr // see above
		case err != nil && first:
			return err
		case err != nil && errorText(err) != lastErr:
			e.Log.Error(machineProblem(err))
		case err == nil && lastErr != "":
			e.Log.Info("names, addresses and ports are up to date again")
		}
		lastErr, retry = errorText(err), nil
		if !complete {
			retry = time.After(machineRetryInterval)
		}
	}
	return nil
}

// machineProblem describes an error of this machine that is retried.
func machineProblem(err error) string {
	return fmt.Sprintf("%s; retrying every %v", errorText(err), machineRetryInterval)
}

// awaitChange waits for a reason to reconcile and then, unless it is the first,
// for batchWindow. It returns false if ctx ended.
func (e *Engine) awaitChange(ctx context.Context, retry <-chan time.Time, first bool) bool {
	var namesChanged <-chan struct{}
	if e.Names != nil && !first {
		namesChanged = e.Names.Changed()
	}
	select {
	case <-ctx.Done():
		return false
	case <-retry:
		return ctx.Err() == nil
	case <-e.replan.C():
	case <-e.Source.Changed():
	case <-namesChanged:
	}
	if !first {
		select {
		case <-ctx.Done():
		case <-time.After(batchWindow):
		}
	}
	return ctx.Err() == nil
}

// apply applies the desired state. New hosts get an address, then ports, then
// names; removed hosts lose them in the reverse order. So every name in force
// resolves to an address and ports of ours, even if apply fails halfway.
// complete reports whether every port and name could be set. An error, unless it
// is of the first pass, is also a problem in the status.
func (e *Engine) apply(ctx context.Context, desired plan.Desired) (complete bool, err error) {
	requested := e.requested.Load() // before the results of connections are read
	hosts, addresses := e.assign(desired.Hosts)
	desired.Hosts = hosts
	old := e.table.load()
	readySince := time.Now()
	before := e.Status()
	if before.At.IsZero() {
		readySince = time.Time{} // unknown
	}
	next := newRoutes(desired.Hosts, addresses, old, readySince)
	both := next.union(old)
	e.table.store(both)
	portErrs, err := e.bind(ctx, both, before)

	status := newStatus(desired, addresses, portErrs, next)
	status.At = time.Now()
	status.Listening = e.Ports.How()
	if e.Names == nil {
		status = status.withoutNames()
	}
	var refused map[string]error
	if err == nil {
		refused, err = e.setNames(ctx, status.names())
	}
	if err == nil {
		status = status.withoutRefused(refused)
		e.inForce = status.names()
		if len(both) > len(next) {
			e.Ports.Set(ctx, next.ports())
			err = e.setAliases(ctx, next)
		}
	}
	switch {
	case err == nil:
		e.table.store(next)
	case before.At.IsZero() || ctx.Err() != nil:
		return false, err
	default:
		status = status.withFailure(err, before, e.inForce)
	}
	report(e.Log, before, status)
	e.status.Store(&status)
	e.published.Store(requested)
	e.statusChanged.Fire()
	return err == nil && len(portErrs) == 0 && len(refused) == 0, err
}

// bind adds the routes' addresses and binds their ports. If the addresses can't be
// added, it returns that error, and an error for each port that wasn't bound before.
func (e *Engine) bind(ctx context.Context, r routes, before Status) (map[netip.AddrPort]error, error) {
	err := e.setAliases(ctx, r)
	if err == nil {
		return e.Ports.Set(ctx, r.ports()), nil
	}
	bound := before.boundPorts()
	portErrs := make(map[netip.AddrPort]error)
	for _, at := range r.ports() {
		if !bound[at] {
			portErrs[at] = err
		}
	}
	return portErrs, err
}

func (e *Engine) setAliases(ctx context.Context, r routes) error {
	if err := e.Aliases.Set(ctx, r.addresses()); err != nil {
		return fmt.Errorf("loopback addresses: %w", err)
	}
	return nil
}

func (e *Engine) setNames(ctx context.Context, table map[netip.Addr][]string) (refused map[string]error, err error) {
	if e.Names == nil {
		return nil, nil
	}
	return e.Names.Set(ctx, table)
}
