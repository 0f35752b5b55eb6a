package tunnel

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/kubeshore/kubeshore/internal/backoff"
	"github.com/kubeshore/kubeshore/pkg/fwd"
)

const (
	// maxDials bounds the dials to one pod under way.
	maxDials = 8
	// minDialDelay and maxDialDelay bound the backoff after failed dials, before
	// jitter. maxClientDelay bounds it while a client waits.
	minDialDelay   = 100 * time.Millisecond
	maxDialDelay   = 15 * time.Second
	maxClientDelay = 2 * time.Second
)

// wantsMoreLocked reports whether the pool has less than one connection per
// stream and a spare. It wants no spare at first: check dials it later, so that
// it doesn't delay the connections of other streams that start at the same time.
// mu must be held.
func (p *pool) wantsMoreLocked() bool {
	want := p.waiting
	for _, n := range p.upstreams {
		want += n
	}
	if time.Since(p.connectedAt) < fastDialWindow || p.connectedAt.IsZero() {
		return len(p.upstreams)+p.dials < want
	}
	return len(p.upstreams)+p.dials <= want || p.dials == 0 && !slices.ContainsFunc(p.idle, (*upstream).isFit)
}

// mayDialLocked reports whether the limits allow one more dial. mu must be held.
func (p *pool) mayDialLocked() bool {
	n := len(p.upstreams) + p.dials
	if p.dials > 0 && p.dialErr != nil && !isClusterUnreachable(p.dialErr) {
		return false // one dial shows whether the server still refuses; a dial that gets no answer shows nothing for long
	}
	if p.dials >= maxDials || n >= maxUpstreams {
		return false
	}
	for u := range p.upstreams {
		if n < maxUsableUpstreams {
			break
		}
		if !u.isFit() {
			n--
		}
	}
	return n < maxUsableUpstreams
}

// dialDelayLocked returns the time until the next dial may start, at most until
// latest. If it isn't 0, dialDelayLocked also returns the error of the last dial,
// unless the API server was unreachable: other errors would recur anyway. mu must
// be held.
func (p *pool) dialDelayLocked(latest time.Time) (time.Duration, error) {
	delay := max(0, min(time.Until(p.notBefore), time.Until(latest)))
	if delay == 0 {
		return 0, nil
	}
	if isClusterUnreachable(p.dialErr) {
		return delay, nil
	}
	return delay, p.dialErr
}

// isClusterUnreachable reports whether a dial failed because the API server was
// unreachable.
func isClusterUnreachable(err error) bool {
	var unreached *fwd.UnreachedError
	return errors.As(err, &unreached) && unreached.Reason == fwd.ClusterUnreachable
}

// startDial starts a dial, which the caller has counted in dials.
func (p *pool) startDial(ctx context.Context) {
	select {
	case p.tasks <- p.dialAndServe:
	case <-ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		p.dials--
		p.changed.Fire()
	}
}

// dialAndServe dials a connection and reads from it until it ends.
func (p *pool) dialAndServe(ctx context.Context) {
	began := time.Now()
	u, err := p.dial(ctx)
	if err == nil && p.stalled != nil {
		u.stalled = p.stalled
	}
	p.dialDone(u, err, began)
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { u.fail(errUpstreamClosed) })
	defer stop()
	err = u.read() // also breaks the streams
	p.remove(u)
	if u.neverAnswered() && errors.Is(err, errUpstreamLost) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.recordFailureLocked(err)
	}
}

// dialDone records the result of a dial.
func (p *pool) dialDone(u *upstream, err error, began time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.changed.Fire()
	p.dials--
	if err != nil {
		p.recordFailureLocked(err)
		return
	}
	p.dialErr, p.lastGoodDial = nil, began
	took := time.Since(began)
	if p.connectedAt.IsZero() {
		p.connectedAt, p.fastestDial = time.Now(), took
	}
	p.fastestDial = min(p.fastestDial, took)
	p.upstreams[u], u.lastUsed = 0, time.Now()
	p.idle = append(p.idle, u)
}

// recordFailureLocked records a failed dial, and delays the next one with full
// jitter, so that clients don't reconnect all at once. mu must be held.
func (p *pool) recordFailureLocked(err error) {
	p.dialErr = err
	p.failedDials++
	p.failedAt = time.Now()
	p.notBefore = p.failedAt.Add(backoff.Jitter(p.backoff.Next()))
}

// recordSuccess records that a stream got data from the pod.
func (p *pool) recordSuccess() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.backoff.Reset()
	p.notBefore = time.Time{}
}

// check checks all connections, each in a goroutine counted in checks, because a
// write to one of them may block. It also dials a missing spare.
func (p *pool) check(ctx context.Context, checks *sync.WaitGroup) {
	p.mu.Lock()
	all := slices.Collect(maps.Keys(p.upstreams))
	p.mu.Unlock()
	for _, u := range all {
		if u.checking.CompareAndSwap(false, true) {
			checks.Go(func() {
				defer u.checking.Store(false)
				p.checkOne(ctx, u)
			})
		}
	}
	p.mu.Lock()
	spare := len(p.upstreams) > 0 && p.dials == 0 && time.Since(p.lastUsed) < upstreamIdleTimeout &&
		!time.Now().Before(p.notBefore) && p.wantsMoreLocked() && p.mayDialLocked()
	if spare {
		p.dials++
	}
	p.mu.Unlock()
	if spare {
		p.startDial(ctx)
	}
}

// checkOne checks one connection. If a reply is overdue, it dials another one,
// which shows whether the API server can be reached.
func (p *pool) checkOne(ctx context.Context, u *upstream) {
	if !u.gotDataNoted && u.gotData.Load() {
		u.gotDataNoted = true
		p.recordSuccess()
	}
	p.mu.Lock()
	lastGoodDial, unused := p.lastGoodDial, p.upstreams[u] == 0
	p.mu.Unlock()
	overdue := u.check(lastGoodDial)
	if unused && u.isDraining() {
		u.fail(errUpstreamClosed)
	}
	if !overdue {
		return
	}
	p.mu.Lock()
	since, _ := u.liveness.silence()
	delay, _ := p.dialDelayLocked(p.notBefore)
	dial := p.upstreams[u] > 0 && !lastGoodDial.After(since) && p.dials == 0 && delay == 0 && p.mayDialLocked()
	if dial {
		p.dials++
	}
	p.mu.Unlock()
	if dial {
		p.startDial(ctx)
	}
}

// pingIdle pings the idle connections that have been silent for a while, so that
// broken ones are found before the next stream uses them.
func (p *pool) pingIdle() {
	p.mu.Lock()
	idle := slices.Clone(p.idle)
	p.mu.Unlock()
	for _, u := range idle {
		if !u.liveness.fresh() {
			u.pingWorkers()
		}
	}
}
