package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/kubeshore/kubeshore/internal/backoff"
	"github.com/kubeshore/kubeshore/internal/resolver"
	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/hosts"
)

const (
	// lookupTimeout limits one lookup of a name.
	lookupTimeout = 5 * time.Second
	// lookupAttempts is the number of failed lookups before a problem is reported.
	// systemd-resolved notices a changed hosts file after up to two seconds.
	lookupAttempts = 3
	// lookupInterval is the time between these attempts.
	lookupInterval = time.Second
	// lookupRetryInterval is the time between attempts once a problem was reported.
	lookupRetryInterval = 10 * time.Second
)

// nameCheck checks once that this system's resolver returns the names in force.
type nameCheck struct {
	lookup  func(ctx context.Context, name string) ([]netip.Addr, error)
	status  func() fwd.Status
	changed func() <-chan struct{}
	report  func(error) // called with a problem, and with nil when it is resolved
}

// checkNames checks that other programs find the names in the hosts file. It returns
// when they do, when that can't be known, or when ctx ends.
func (d *Daemon) checkNames(ctx context.Context, engine *fwd.Engine, namesWritten bool) {
	if !namesWritten || d.options.Machine.HostsFile != hosts.DefaultPath() {
		return // other programs don't read that file
	}
	c := nameCheck{lookup: resolver.Lookup, status: engine.Status, changed: engine.Changed, report: d.reportNames}
	c.run(ctx)
}

// run looks up a name until that succeeds, it is unknown how to, or ctx ends.
func (c nameCheck) run(ctx context.Context) {
	reported := false
	for failed := 1; ; failed++ {
		name, address, ok := c.awaitName(ctx)
		if !ok {
			return
		}
		err := c.resolve(ctx, name, address)
		if ctx.Err() != nil || errors.Is(err, resolver.ErrUnavailable) {
			return
		}
		if err == nil {
			break
		}
		interval := lookupInterval
		if failed >= lookupAttempts {
			interval = lookupRetryInterval
			if !reported {
				c.report(err)
				reported = true
			}
		}
		if backoff.Sleep(ctx, interval) != nil {
			return
		}
	}
	if reported {
		c.report(nil)
	}
}

// awaitName waits until a name is in force, and returns it and its address. It returns
// false if ctx ends first.
func (c nameCheck) awaitName(ctx context.Context) (name string, address netip.Addr, ok bool) {
	for {
		changed := c.changed()
		for _, h := range c.status().Hosts {
			if len(h.Names) > 0 {
				return h.Names[0], h.Address, true
			}
		}
		select {
		case <-ctx.Done():
			return "", netip.Addr{}, false
		case <-changed:
		}
	}
}

// resolve returns an error if the system's resolver doesn't return the address.
func (c nameCheck) resolve(ctx context.Context, name string, want netip.Addr) error {
	ctx, cancel := context.WithTimeoutCause(ctx, lookupTimeout, fmt.Errorf("no answer within %v", lookupTimeout))
	defer cancel()
	got, err := c.lookup(ctx, name)
	switch {
	case err != nil:
		return fmt.Errorf("resolve %s: %w", name, err)
	case !slices.Contains(got, want):
		return fmt.Errorf("resolve %s: got %v, want %v", name, got, want)
	}
	return nil
}

// reportNames reports why other programs don't find the names, or, with nil, that they
// do now.
func (d *Daemon) reportNames(err error) {
	problem := ""
	if err != nil {
		problem = fmt.Sprintf("other programs don't find the names: %v", err)
		if cause := resolver.Cause(os.DirFS("/")); cause != "" {
			problem += "; " + cause
		}
		d.log.Warn(problem)
	} else {
		d.log.Info("other programs find the names now")
	}
	d.namesProblem.Store(&problem)
	d.announce()
}
