package tunnel

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubeshore/kubeshore/pkg/fwd"
)

const (
	// maxUpstreams bounds the connections to one pod, maxDials those of them
	// that are dialled at once. Beyond that, and until a dial is through,
	// streams share. Those that can't be shared, as a client or a pod holds
	// them up, don't count, up to mostUpstreams. More of them would cost busy
	// connections the gain of travelling together, a third of their rate at 32;
	// 16 are enough for 80 streams without a neighbour in their lane.
	maxUpstreams  = 16
	mostUpstreams = 256
	maxDials      = 8
	// ownTime is how long a dial may take, at best, for streams to wait for a
	// connection of their own; they do for twice as long.
	ownTime = 50 * time.Millisecond
	// lookAgain is when connections that couldn't be shared are looked at again.
	lookAgain = 20 * time.Millisecond
	// keepTime is how long a connection is kept after its last use.
	keepTime = 10 * time.Minute
	// reapEvery is how often unused connections are looked for.
	reapEvery = time.Minute
	// checkEvery is how often a connection is looked at.
	checkEvery = time.Second
	// firstDelay and lastDelay bound the time between dials that fail, and
	// clientDelay does as long as clients wait for one.
	firstDelay  = 100 * time.Millisecond
	lastDelay   = 15 * time.Second
	clientDelay = 2 * time.Second
)

// pool has the connections to one pod: one for each stream where that costs
// nothing, one stream after another; and a spare, so that the next stream need
// not wait for a dial.
type pool struct {
	dial    func(context.Context) (*upstream, error)
	start   chan<- func(context.Context) // runs what it is given
	stalled *atomic.Uint64               // counts streams whose client was given up; may be nil

	mu      sync.Mutex
	users   map[*upstream]int // all of them, with the number of their streams
	idle    []*upstream       // those without, the last used last
	dialing int
	waiting int           // streams that have no connection yet
	first   time.Time     // when there first was a connection
	took    time.Duration // to dial one, at best
	changed chan struct{} // closed and made anew when there is something new to look at
	used    time.Time
	proven  time.Time // when the last dial that succeeded began

	dialErr   error     // of the last dial, until one succeeds
	failed    int       // dials that failed, ever
	failures  int       // since a stream last worked
	failedAt  time.Time // when the last of them did
	notBefore time.Time // the next dial
}

func newPool(dial func(context.Context) (*upstream, error), start chan<- func(context.Context)) *pool {
	return &pool{dial: dial, start: start, users: make(map[*upstream]int), changed: make(chan struct{})}
}

// get returns a connection for one more stream: an unused one, or else, while
// another is dialled, one that can be shared. There is to be one for each
// stream, and a spare for the next.
func (p *pool) get(ctx context.Context) (*upstream, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	failed, began := p.failed, time.Now()
	for {
		p.used = time.Now()
		u := p.takeLocked(p.failed != failed, p.mayShareLocked(began))
		if u == nil && p.failed != failed && p.dialErr != nil { // while we waited
			return nil, p.dialErr
		}
		delay, err := p.delayLocked(p.failedAt.Add(clientDelay))
		if u == nil && err != nil {
			return nil, err
		}
		if u == nil {
			p.waiting++
		}
		if delay == 0 && p.fewLocked() && p.mayDialLocked() {
			p.dialing++
			p.mu.Unlock()
			p.begin(ctx)
			p.mu.Lock()
		}
		if u != nil {
			return u, nil
		}
		changed := p.changed
		p.mu.Unlock()
		err = wait(ctx, changed, delay)
		p.mu.Lock()
		p.waiting--
		if err != nil {
			return nil, err
		}
	}
}

// wait waits for a change, or for a delay if there is one to wait for, or for
// the moment after which a connection that was busy may not be any more.
func wait(ctx context.Context, changed <-chan struct{}, delay time.Duration) error {
	if delay == 0 {
		delay = lookAgain
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
	known := time.Since(p.first)
	switch {
	case p.dialing == 0:
		return true
	case known < ownTime: // the others are through in a moment too
		return false
	}
	return p.took > ownTime || time.Since(began) >= 2*ownTime // many at once take longer
}

// fewUsableLocked tells whether there are fewer connections than there should be: one
// for each stream, and a spare. At first there is none: check has it dialled, once
// the streams have theirs, and those to other pods too that begin together.
func (p *pool) fewLocked() bool {
	want := p.waiting
	for _, n := range p.users {
		want += n
	}
	if time.Since(p.first) < ownTime || p.first.IsZero() {
		return len(p.users)+p.dialing < want
	}
	return len(p.users)+p.dialing <= want || p.dialing == 0 && !slices.ContainsFunc(p.idle, (*upstream).isFit)
}

// mayDialLocked tells whether one more connection may be dialled.
func (p *pool) mayDialLocked() bool {
	n := len(p.users) + p.dialing
	if p.dialing >= maxDials || n >= mostUpstreams {
		return false
	}
	for u := range p.users {
		if n < maxUpstreams {
			break
		}
		if !u.isFit() {
			n--
		}
	}
	return n < maxUpstreams
}

// delayLocked returns how long no dial may begin, after some that failed, but
// not for longer than until latest. What will be said again of every dial is
// said at once: that is the error.
func (p *pool) delayLocked(latest time.Time) (time.Duration, error) {
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

// begin has a connection dialled that was counted in dialing.
func (p *pool) begin(ctx context.Context) {
	select {
	case p.start <- p.add:
	case <-ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		p.dialing--
		p.wakeLocked()
	}
}

// takeLocked returns a connection for one more stream, nil if there is none. It
// is one that has others only if share is set, and one that is crowded only if
// no better one is to be had, or hurry is set.
func (p *pool) takeLocked(hurry, share bool) *upstream {
	for i, u := range slices.Backward(p.idle) {
		if u.isFit() {
			p.idle = slices.Delete(p.idle, i, i+1)
			p.users[u]++
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
	for u, n := range p.users {
		if n == 0 {
			continue // not fit
		}
		if f := u.fitness(); f > least || f == least && (best == nil || n < p.users[best]) {
			best, least = u, f
		}
	}
	if best != nil {
		p.users[best]++
	}
	return best
}

// add dials a connection and serves it until it ends.
func (p *pool) add(ctx context.Context) {
	began := time.Now()
	u, err := p.dial(ctx)
	if err == nil && p.stalled != nil {
		u.stalled = p.stalled
	}
	p.dialled(u, err, began)
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
		p.failedLocked(err)
	}
}

// check looks after the connections, each in a goroutine of its own that checks
// counts: one that can't be written to now is not to hold up the others. While it
// is doubtful whether one works, another is dialled: it will tell.
func (p *pool) check(ctx context.Context, checks *sync.WaitGroup) {
	p.mu.Lock()
	all := slices.Collect(maps.Keys(p.users))
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
	spare := len(p.users) > 0 && p.dialing == 0 && time.Since(p.used) < keepTime && !time.Now().Before(p.notBefore) && p.fewLocked() && p.mayDialLocked()
	if spare {
		p.dialing++
	}
	p.mu.Unlock()
	if spare {
		p.begin(ctx)
	}
}

func (p *pool) checkOne(ctx context.Context, u *upstream) {
	if !u.gotDataNoted && u.gotData.Load() {
		u.gotDataNoted = true
		p.worked()
	}
	p.mu.Lock()
	proven, unused := p.proven, p.users[u] == 0
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
	delay, _ := p.delayLocked(p.notBefore)
	dial := p.users[u] > 0 && !proven.After(since) && p.dialing == 0 && delay == 0 && p.mayDialLocked()
	if dial {
		p.dialing++
	}
	p.mu.Unlock()
	if dial {
		p.begin(ctx)
	}
}

// ask has the unused connections that were not heard of lately give a sign of
// life: the next stream should not be what finds out.
func (p *pool) ask() {
	p.mu.Lock()
	idle := slices.Clone(p.idle)
	p.mu.Unlock()
	for _, u := range idle {
		if !u.liveness.fresh() {
			u.pingWorkers()
		}
	}
}

// dialled takes the outcome of a dial.
func (p *pool) dialled(u *upstream, err error, began time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialing--
	if err != nil {
		p.failedLocked(err)
	} else {
		p.dialErr, p.proven = nil, began
		took := time.Since(began)
		if p.first.IsZero() {
			p.first, p.took = time.Now(), took
		}
		p.took = min(p.took, took)
		p.users[u], u.lastUsed = 0, time.Now()
		p.idle = append(p.idle, u)
	}
	p.wakeLocked()
}

// failedLocked takes a dial that came to nothing. The next one is put off, by
// full jitter: clients don't come back all at once.
func (p *pool) failedLocked(err error) {
	p.dialErr = err
	p.failed++
	delay := min(lastDelay, firstDelay<<min(p.failures, 10))
	p.failures++
	p.failedAt = time.Now()
	p.notBefore = p.failedAt.Add(rand.N(delay)) //nolint:gosec // not a secret
}

// worked says that a stream got an answer from the pod.
func (p *pool) worked() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures, p.notBefore = 0, time.Time{}
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
	p.used, u.lastUsed = time.Now(), time.Now()
	switch {
	case n > 1:
	case u.isDraining():
		u.fail(errUpstreamClosed)
	default:
		p.idle = append(p.idle, u)
	}
	p.wakeLocked()
}

// remove forgets a connection that has ended, or can't be used any more.
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

// reap closes the connections that were not used for long, but for a spare as
// long as the pool is in use, and says whether the pool itself is of no more use.
func (p *pool) reap(now time.Time) bool {
	p.mu.Lock()
	spares := 0
	if now.Sub(p.used) <= keepTime || len(p.idle) < len(p.users) {
		spares = 1
	}
	var unused []*upstream
	for i, u := range p.idle { // the last used last
		if now.Sub(u.lastUsed) > keepTime && len(p.idle)-i > spares {
			unused = append(unused, u)
		}
	}
	over := spares == 0 && p.dialing == 0 && len(unused) == len(p.users)
	p.mu.Unlock()
	for _, u := range unused {
		u.fail(errUpstreamClosed) // which takes it out
	}
	return over
}
