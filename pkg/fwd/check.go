package fwd

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/kubeshore/kubeshore/pkg/plan"
)

// maxChecks bounds the hosts that Check checks at the same time.
const maxChecks = 16

// Check checks whether a pod of each host can be reached, without contacting a
// process in it. It returns an error for each host for which that remains unknown.
// Other results are in the Status when Check returns; if the Status couldn't be
// published before ctx ended, all hosts have an error. Hosts without a ready pod
// are not checked. Any goroutine may call it at any time.
func (e *Engine) Check(ctx context.Context, hosts []plan.HostID) map[plan.HostID]error {
	unknown := make(map[plan.HostID]error)
	var mu sync.Mutex
	var checks sync.WaitGroup
	slots := make(chan struct{}, maxChecks)
	pending := make(map[plan.HostID]bool, len(hosts))
	for _, host := range hosts {
		pending[host] = true
	}
	table := e.table.load()
	for _, at := range table.ports() {
		r := table[at]
		if !pending[r.host] {
			continue
		}
		delete(pending, r.host)
		checks.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := e.checkHost(ctx, r); err != nil {
				mu.Lock()
				defer mu.Unlock()
				unknown[r.host] = err
			}
		})
	}
	checks.Wait()
	if err := e.awaitPublished(ctx); err != nil {
		for _, host := range hosts {
			unknown[host] = err
		}
	}
	return unknown
}

// checkHost checks the pods of a host in turn until one can be reached, and
// records the failures. Of a success it records only that the host isn't denied:
// nothing is known about the processes in the pod.
func (e *Engine) checkHost(ctx context.Context, r route) error {
	for i, d := range r.candidates() {
		err := e.Dialer.Check(ctx, d.Pod)
		if err == nil {
			if r.hostState.denied.Swap(false) {
				e.requestReplan()
			}
			return nil
		}
		var unreached *UnreachedError
		if !errors.As(err, &unreached) || unreached.Reason == ClusterUnreachable {
			return err
		}
		p, _ := newProblem(d, err)
		if r.recordFailure(p, i == len(r.candidates())-1) {
			e.requestReplan()
		}
		if unreached.Reason == Denied {
			return nil
		}
	}
	return nil
}

// requestReplan makes the loop publish what connections and checks have recorded.
func (e *Engine) requestReplan() {
	e.requested.Add(1)
	e.replan.Fire()
}

// awaitPublished waits until the Status contains what was recorded before the
// call.
func (e *Engine) awaitPublished(ctx context.Context) error {
	requested := e.requested.Load()
	for {
		changed := e.Changed()
		if e.published.Load() >= requested {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("publish the status: %w", context.Cause(ctx))
		case <-changed:
		}
	}
}
