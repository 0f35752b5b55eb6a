package tunnel

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubeshore/kubeshore/internal/backoff"
	"github.com/kubeshore/kubeshore/internal/wake"
)

const (
	// maxUsableUpstreams bounds the connections to one pod, maxDials those of them
	// that are dialled at once. Beyond that, and until a dial is through,
	// streams share. Those that can't be shared, as a client or a pod holds
	// them up, don't count, up to maxUpstreams. More of them would cost busy
	// connections the gain of travelling together, a third of their rate at 32;
	// 16 are enough for 80 streams without a neighbour in their lane.
	maxUsableUpstreams = 16
	maxUpstreams       = 256
	maxDials           = 8
	// fastDialWindow is how long a dial may take, at best, for streams to wait for a
	// connection of their own; they do for twice as long.
	fastDialWindow = 50 * time.Millisecond
	// shareRetryInterval is when connections that couldn't be shared are looked at again.
	shareRetryInterval = 20 * time.Millisecond
	// upstreamIdleTimeout is how long a connection is kept after its last use.
	upstreamIdleTimeout = 10 * time.Minute
	// reapInterval is how often unused connections are looked for.
	reapInterval = time.Minute
	// upstreamCheckInterval is how often a connection is looked at.
	upstreamCheckInterval = time.Second
	// minDialDelay and maxDialDelay bound the time between dials that fail, and
	// maxClientDelay does as long as clients wait for one.
	minDialDelay   = 100 * time.Millisecond
	maxDialDelay   = 15 * time.Second
	maxClientDelay = 2 * time.Second
)

// pool has the connections to one pod: one for each stream where that costs
// nothing, one stream after another; and a spare, so that the next stream need
// not wait for a dial.
type pool struct {
	dial    func(context.Context) (*upstream, error)
	tasks   chan<- func(context.Context) // runs what it is given
	stalled *atomic.Uint64               // counts streams whose client was given up; may be nil

	mu           sync.Mutex
	upstreams    map[*upstream]int // all of them, with the number of their streams
	idle         []*upstream       // those without, the last used last
	dialing      int
	waiting      int           // streams that have no connection yet
	connectedAt  time.Time     // when there first was a connection
	fastestDial  time.Duration // to dial one, at best
	changed      wake.Broadcast
	lastUsed     time.Time
	lastGoodDial time.Time // when the last dial that succeeded began

	dialErr     error           // of the last dial, until one succeeds
	failedDials int             // dials that failed, ever
	backoff     backoff.Backoff // between dials, until a stream works
	failedAt    time.Time       // when the last of them did
	notBefore   time.Time       // the next dial
}

func newPool(dial func(context.Context) (*upstream, error), start chan<- func(context.Context)) *pool {
	return &pool{dial: dial, tasks: start, upstreams: make(map[*upstream]int), backoff: backoff.Backoff{Min: minDialDelay, Max: maxDialDelay}}
}

// acquire returns a connection for one more stream: an unused one, or else, while
// another is dialled, one that can be shared. There is to be one for each
// stream, and a spare for the next.
func (p *pool) acquire(ctx context.Context) (*upstream, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	failed, began := p.failedDials, time.Now()
	for {
		p.lastUsed = time.Now()
		u := p.pickLocked(p.failedDials != failed, p.mayShareLocked(began))
		if u == nil && p.failedDials != failed && p.dialErr != nil { // while we waited
			return nil, p.dialErr
		}
		delay, err := p.dialDelayLocked(p.failedAt.Add(maxClientDelay))
		if u == nil && err != nil {
			return nil, err
		}
		if u == nil {
			p.waiting++
		}
		if delay == 0 && p.wantsMoreLocked() && p.mayDialLocked() {
			p.dialing++
			p.mu.Unlock()
			p.startDial(ctx)
			p.mu.Lock()
		}
		if u != nil {
			return u, nil
		}
		changed := p.changed.C()
		p.mu.Unlock()
		err = waitForChange(ctx, changed, delay)
		p.mu.Lock()
		p.waiting--
		if err != nil {
			return nil, err
		}
	}
}

// waitForChange waits for a change, or for a delay if there is one to wait for, or for
// the moment after which a connection that was busy may not be any more.
func waitForChange(ctx context.Context, changed <-chan struct{}, delay time.Duration) error {
	if delay == 0 {
		delay = shareRetryInterval
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-changed:
	case <-timer.C:
	}
	return nil
}

// mayShareLocked tells whether a stream that has waited since began may share a
// connection with others, rather than wait on for one of its own. It should not
// have to: if one of them turns out to be slow, the others are.
func (p *pool) mayShareLocked(began time.Time) bool {
	known := time.Since(p.connectedAt)
	switch {
	case p.dialing == 0:
		return true
	case known < fastDialWindow: // the others are through in a moment too
		return false
	}
	return p.fastestDial > fastDialWindow || time.Since(began) >= 2*fastDialWindow // many at once take longer
}

// pickLocked returns a connection for one more stream, nil if there is none. It
// is one that has others only if share is set, and one that is crowded only if
// no better one is to be had, or hurry is set.
func (p *pool) pickLocked(hurry, share bool) *upstream {
	for i, u := range slices.Backward(p.idle) {
		if u.isFit() {
			p.idle = slices.Delete(p.idle, i, i+1)
			p.upstreams[u]++
			return u
		}
	}
	if !share && !hurry {
		return nil
	}
	var best *upstream
	least := queueShared
	if hurry || p.dialing == 0 && !p.mayDialLocked() {
		least = crowded
	}
	for u, n := range p.upstreams {
		if n == 0 {
			continue // not fit
		}
		if f := u.fitness(); f > least || f == least && (best == nil || n < p.upstreams[best]) {
			best, least = u, f
		}
	}
	if best != nil {
		p.upstreams[best]++
	}
	return best
}

// release takes a connection back from one stream.
func (p *pool) release(u *upstream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, ok := p.upstreams[u]
	if !ok {
		return // it has ended
	}
	p.upstreams[u] = n - 1
	p.lastUsed, u.lastUsed = time.Now(), time.Now()
	switch {
	case n > 1:
	case u.isDraining():
		u.fail(errUpstreamClosed)
	default:
		p.idle = append(p.idle, u)
	}
	p.changed.Fire()
}

// remove forgets a connection that has ended, or can't be used any more.
func (p *pool) remove(u *upstream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.upstreams, u)
	p.idle = slices.DeleteFunc(p.idle, func(other *upstream) bool { return other == u })
	p.changed.Fire()
}

// reap closes the connections that were not used for long, but for a spare as
// long as the pool is in use, and says whether the pool itself is of no more use.
func (p *pool) reap(now time.Time) bool {
	p.mu.Lock()
	spares := 0
	if now.Sub(p.lastUsed) <= upstreamIdleTimeout || len(p.idle) < len(p.upstreams) {
		spares = 1
	}
	var unused []*upstream
	for i, u := range p.idle { // the last used last
		if now.Sub(u.lastUsed) > upstreamIdleTimeout && len(p.idle)-i > spares {
			unused = append(unused, u)
		}
	}
	over := spares == 0 && p.dialing == 0 && len(unused) == len(p.upstreams)
	p.mu.Unlock()
	for _, u := range unused {
		u.fail(errUpstreamClosed) // which takes it out
	}
	return over
}
