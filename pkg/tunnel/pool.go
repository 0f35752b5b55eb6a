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
	// maxUsableUpstreams bounds the connections to one pod that can take another
	// stream; beyond it, streams share them. At 32, busy connections lose a third
	// of their throughput, because they batch less. 16 suffice for 80 streams,
	// each with a worker's queue to itself.
	maxUsableUpstreams = 16
	// maxUpstreams bounds all connections to one pod, including those that a
	// client or the pod holds up.
	maxUpstreams = 256
	// fastDialWindow is the duration of a fast dial. If the pod's fastest dial was
	// within it, a stream waits for its own connection, for up to twice as long.
	fastDialWindow = 50 * time.Millisecond
	// shareRetryInterval is how often a waiting stream checks whether a connection
	// has become usable.
	shareRetryInterval = 20 * time.Millisecond
	// upstreamIdleTimeout is how long an unused connection is kept.
	upstreamIdleTimeout = 10 * time.Minute
	// reapInterval is the interval between checks for unused connections.
	reapInterval = time.Minute
	// upstreamCheckInterval is the interval between health checks of a connection.
	upstreamCheckInterval = time.Second
)

// pool holds the connections to one pod. Where that costs no time, each stream
// has a connection to itself. A spare connection saves the next stream the dial.
// When a stream ends, its connection is reused.
type pool struct {
	dial    func(context.Context) (*upstream, error)
	tasks   chan<- func(context.Context) // functions for Dialer.Run to run
	stalled *atomic.Uint64               // counts streams reset because their client stalled; may be nil

	mu           sync.Mutex
	changed      wake.Broadcast    // fires when a waiting stream should try again
	upstreams    map[*upstream]int // all connections, with their numbers of streams
	idle         []*upstream       // those without streams, most recently used last
	dials        int               // dials under way
	waiting      int               // streams without a connection
	connectedAt  time.Time         // time of the first connection
	fastestDial  time.Duration
	lastUsed     time.Time
	lastGoodDial time.Time // start of the last successful dial

	dialErr     error           // of the last dial; nil if it succeeded
	failedDials int             // total number
	failedAt    time.Time       // time of the last failed dial
	backoff     backoff.Backoff // reset when a stream works
	notBefore   time.Time       // earliest time of the next dial
}

func newPool(dial func(context.Context) (*upstream, error), tasks chan<- func(context.Context)) *pool {
	return &pool{
		dial: dial, tasks: tasks, upstreams: make(map[*upstream]int),
		backoff: backoff.Backoff{Min: minDialDelay, Max: maxDialDelay},
	}
}

// acquire returns a connection for one more stream: an idle one if possible,
// otherwise a new or a shared one. It starts a dial if there is less than one
// connection per stream and a spare.
func (p *pool) acquire(ctx context.Context) (*upstream, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	failed, began := p.failedDials, time.Now()
	for {
		p.lastUsed = time.Now()
		u := p.pickLocked(p.failedDials != failed, p.mayShareLocked(began))
		if u == nil && p.failedDials != failed && p.dialErr != nil { // a dial failed since the call
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
			p.dials++
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

// waitForChange waits for a change of the pool, but no longer than delay, or, if
// that is 0, than shareRetryInterval. It returns ctx's cause if ctx ends.
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

// mayShareLocked reports whether a stream that has waited since began may share a
// connection. A separate connection is better, because a slow stream slows down
// those that share its connection. mu must be held.
func (p *pool) mayShareLocked(began time.Time) bool {
	switch {
	case p.dials == 0:
		return true
	case time.Since(p.connectedAt) < fastDialWindow: // the other dials will complete soon, too
		return false
	}
	return p.fastestDial > fastDialWindow || time.Since(began) >= 2*fastDialWindow // dials in parallel take longer
}

// pickLocked returns a connection for one more stream, or nil. It returns one
// with other streams only if share or hurry is set, and a crowded one only if
// hurry is set or no other can be dialed. mu must be held.
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
	if hurry || p.dials == 0 && !p.mayDialLocked() {
		least = crowded
	}
	for u, n := range p.upstreams {
		if n == 0 {
			continue // idle, but not fit
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

// release returns a connection after the end of a stream.
func (p *pool) release(u *upstream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, ok := p.upstreams[u]
	if !ok {
		return // removed
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

// remove removes a connection that is broken or exhausted.
func (p *pool) remove(u *upstream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.upstreams, u)
	p.idle = slices.DeleteFunc(p.idle, func(other *upstream) bool { return other == u })
	p.changed.Fire()
}

// reap closes the connections that have been idle for upstreamIdleTimeout, except
// a spare if the pool is in use. It reports whether the pool can be deleted.
func (p *pool) reap(now time.Time) bool {
	p.mu.Lock()
	spares := 0
	if now.Sub(p.lastUsed) <= upstreamIdleTimeout || len(p.idle) < len(p.upstreams) {
		spares = 1
	}
	var unused []*upstream
	for i, u := range p.idle { // most recently used last
		if now.Sub(u.lastUsed) > upstreamIdleTimeout && len(p.idle)-i > spares {
			unused = append(unused, u)
		}
	}
	unneeded := spares == 0 && p.dials == 0 && len(unused) == len(p.upstreams)
	p.mu.Unlock()
	for _, u := range unused {
		u.fail(errUpstreamClosed) // dialAndServe removes it
	}
	return unneeded
}
