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

// fewUsableLocked tells whether there are fewer connections than there should be: one
// for each stream, and a spare. At first there is none: check has it dialled, once
// the streams have theirs, and those to other pods too that begin together.
func (p *pool) wantsMoreLocked() bool {
	want := p.waiting
	for _, n := range p.upstreams {
		want += n
	}
	if time.Since(p.connectedAt) < fastDialWindow || p.connectedAt.IsZero() {
		return len(p.upstreams)+p.dialing < want
	}
	return len(p.upstreams)+p.dialing <= want || p.dialing == 0 && !slices.ContainsFunc(p.idle, (*upstream).isFit)
}

// mayDialLocked tells whether one more connection may be dialled.
func (p *pool) mayDialLocked() bool {
	n := len(p.upstreams) + p.dialing
	if p.dialing >= maxDials || n >= maxUpstreams {
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

// dialDelayLocked returns how long no dial may begin, after some that failed, but
// not for longer than until latest. What will be said again of every dial is
// said at once: that is the error.
func (p *pool) dialDelayLocked(latest time.Time) (time.Duration, error) {
	delay := max(0, min(time.Until(p.notBefore), time.Until(latest)))
	if delay == 0 {
		return 0, nil
	}
	var unreached *fwd.UnreachedError
	if errors.As(p.dialErr, &unreached) && unreached.Reason == fwd.ClusterUnreachable {
		return delay, nil
	}
	return delay, p.dialErr
}

// startDial has a connection dialled that was counted in dialing.
func (p *pool) startDial(ctx context.Context) {
	select {
	case p.tasks <- p.dialAndServe:
	case <-ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		p.dialing--
		p.changed.Fire()
	}
}

// dialAndServe dials a connection and serves it until it ends.
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
	closed := context.AfterFunc(ctx, func() { u.fail(errUpstreamClosed) })
	defer closed()
	err = u.read() // its streams have the error
	p.remove(u)
	if u.neverAnswered() && errors.Is(err, errUpstreamLost) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.recordFailureLocked(err)
	}
}

// dialDone takes the outcome of a dial.
func (p *pool) dialDone(u *upstream, err error, began time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialing--
	if err != nil {
		p.recordFailureLocked(err)
	} else {
		p.dialErr, p.lastGoodDial = nil, began
		took := time.Since(began)
		if p.connectedAt.IsZero() {
			p.connectedAt, p.fastestDial = time.Now(), took
		}
		p.fastestDial = min(p.fastestDial, took)
		p.upstreams[u], u.lastUsed = 0, time.Now()
		p.idle = append(p.idle, u)
	}
	p.changed.Fire()
}

// recordFailureLocked takes a dial that came to nothing. The next one is put off, by
// full jitter: clients don't come back all at once.
func (p *pool) recordFailureLocked(err error) {
	p.dialErr = err
	p.failedDials++
	p.failedAt = time.Now()
	p.notBefore = p.failedAt.Add(backoff.Jitter(p.backoff.Next()))
}

// recordSuccess says that a stream got an answer from the pod.
func (p *pool) recordSuccess() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.backoff.Reset()
	p.notBefore = time.Time{}
}

// check looks after the connections, each in a goroutine of its own that checks
// counts: one that can't be written to now is not to hold up the others. While it
// is doubtful whether one works, another is dialled: it will tell.
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
	spare := len(p.upstreams) > 0 && p.dialing == 0 && time.Since(p.lastUsed) < upstreamIdleTimeout && !time.Now().Before(p.notBefore) && p.wantsMoreLocked() && p.mayDialLocked()
	if spare {
		p.dialing++
	}
	p.mu.Unlock()
	if spare {
		p.startDial(ctx)
	}
}

func (p *pool) checkOne(ctx context.Context, u *upstream) {
	if !u.gotDataNoted && u.gotData.Load() {
		u.gotDataNoted = true
		p.recordSuccess()
	}
	p.mu.Lock()
	proven, unused := p.lastGoodDial, p.upstreams[u] == 0
	p.mu.Unlock()
	doubtful := u.check(proven)
	if unused && u.isDraining() {
		u.fail(errUpstreamClosed)
	}
	if !doubtful {
		return
	}
	p.mu.Lock()
	since, _ := u.liveness.silence()
	delay, _ := p.dialDelayLocked(p.notBefore)
	dial := p.upstreams[u] > 0 && !proven.After(since) && p.dialing == 0 && delay == 0 && p.mayDialLocked()
	if dial {
		p.dialing++
	}
	p.mu.Unlock()
	if dial {
		p.startDial(ctx)
	}
}

// pingIdle has the unused connections that were not heard of lately give a sign of
// life: the next stream should not be what finds out.
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
