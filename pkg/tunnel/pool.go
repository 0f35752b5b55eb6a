package tunnel

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// maxUpstreams bounds the connections to one pod. Beyond it, and while a
	// further one is being dialled, streams share.
	maxUpstreams = 32
	// keepTime is how long a connection is kept after its last use.
	keepTime = 10 * time.Minute
	// reapEvery is how often unused connections are looked for.
	reapEvery = time.Minute
)

// pool has the connections to one pod: one for each stream where that costs
// nothing, one stream after another; and a spare, so that the next stream need
// not wait for a dial.
type pool struct {
	dial func(context.Context) (*upstream, error)

	mu      sync.Mutex
	users   map[*upstream]int // all of them, with the number of their streams
	idle    []*upstream       // those without, the last used last
	dialing int
	changed chan struct{} // closed and made anew when there is something new to look at
	dialErr error         // of the last dial, until one succeeds
	failed  int           // dials that failed, ever
	used    time.Time
}

func newPool(dial func(context.Context) (*upstream, error)) *pool {
	return &pool{dial: dial, users: make(map[*upstream]int), changed: make(chan struct{})}
}

// get returns a connection for one more stream: an unused one, or else one
// that can be shared, or else a new one. If none is left unused, one more is
// dialled, for the next stream. start runs what it is given.
func (p *pool) get(ctx context.Context, start chan<- func(context.Context)) (*upstream, error) {
	p.mu.Lock()
	failed := p.failed
	for {
		p.used = time.Now()
		u := p.takeLocked()
		if u == nil && p.failed != failed { // while we waited
			err := p.dialErr
			p.mu.Unlock()
			return nil, err
		}
		dial := p.dialing == 0 && len(p.idle) == 0 && len(p.users) < maxUpstreams
		if dial {
			p.dialing++
		}
		changed := p.changed
		p.mu.Unlock()
		if dial {
			select {
			case start <- p.add:
			case <-ctx.Done():
				p.notStarted()
			}
		}
		if u != nil {
			return u, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-changed:
		}
		p.mu.Lock()
	}
}

// takeLocked returns a connection for one more stream, nil if there is none.
func (p *pool) takeLocked() *upstream {
	var best *upstream
	if n := len(p.idle); n > 0 {
		best = p.idle[n-1]
		p.idle = p.idle[:n-1]
	} else {
		for u, n := range p.users {
			if (best == nil || n < p.users[best]) && u.shareable() {
				best = u
			}
		}
	}
	if best != nil {
		p.users[best]++
	}
	return best
}

// add dials a connection and serves it until it ends.
func (p *pool) add(ctx context.Context) {
	u, err := p.dial(ctx)
	p.dialled(u, err)
	if err != nil {
		return
	}
	closed := context.AfterFunc(ctx, func() { u.fail(errUpstreamClosed) })
	defer closed()
	_ = u.read() // its streams have the error
	p.remove(u)
}

// notStarted takes back that a dial is under way.
func (p *pool) notStarted() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialing--
	p.wakeLocked()
}

// dialled takes the outcome of a dial.
func (p *pool) dialled(u *upstream, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialing--
	p.dialErr = err
	if err != nil {
		p.failed++
	} else {
		p.users[u] = 0
		p.idle = append(p.idle, u)
	}
	p.wakeLocked()
}

// put takes a connection back from one stream.
func (p *pool) put(u *upstream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, ok := p.users[u]
	if !ok {
		return // it has ended
	}
	p.users[u] = n - 1
	p.used = time.Now()
	if n == 1 {
		p.idle = append(p.idle, u)
	}
	p.wakeLocked()
}

// remove forgets a connection that has ended.
func (p *pool) remove(u *upstream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.users, u)
	p.idle = slices.DeleteFunc(p.idle, func(other *upstream) bool { return other == u })
	p.wakeLocked()
}

func (p *pool) wakeLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// reap closes the connections if none was used for long, and says whether the
// pool itself is of no more use.
func (p *pool) reap(now time.Time) bool {
	p.mu.Lock()
	idle := len(p.idle) == len(p.users) && p.dialing == 0 && now.Sub(p.used) > keepTime
	upstreams := slices.Collect(maps.Keys(p.users))
	p.mu.Unlock()
	if !idle {
		return false
	}
	for _, u := range upstreams {
		u.fail(errUpstreamClosed)
	}
	return true
}
