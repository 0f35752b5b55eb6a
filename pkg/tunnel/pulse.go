package tunnel

import (
	"sync"
	"time"
)

const (
	// askAfter is how long nothing may come before the server is asked for a
	// sign of life, as client-go does too.
	askAfter = 5 * time.Second
	// freshTime is how long ago something may have come for a connection to be
	// taken as working; it is more than askAfter and an answer need.
	freshTime = 8 * time.Second
	// doubtTime is how long an answer may take before another connection is
	// tried.
	doubtTime = time.Second
	// silentTime is how long, if the other one worked; deadTime, if it is not
	// known whether one would.
	silentTime = 3 * time.Second
	deadTime   = 30 * time.Second
)

// pulse knows whether the other side of a connection still answers. The
// machine may sleep in between: the monotonic clock stands still then, and the
// wall clock doesn't.
type pulse struct {
	mu      sync.Mutex
	heard   time.Time     // when something last came
	waiting time.Time     // since when the reader waits; zero if it is busy
	asked   time.Time     // since when an answer is due; zero if none is
	answer  chan struct{} // closed when something comes; nil if nobody waits for it
}

// ask notes that an answer is due.
func (p *pulse) ask() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked.IsZero() {
		p.asked = time.Now()
	}
}

// wait notes that the reader waits for bytes.
func (p *pulse) wait() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = time.Now()
}

// hear notes that bytes have come, and that the reader is now busy with them.
func (p *pulse) hear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard, p.waiting, p.asked = time.Now(), time.Time{}, time.Time{}
	if p.answer != nil {
		close(p.answer)
		p.answer = nil
	}
}

// next returns what is closed when something comes.
func (p *pulse) next() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answer == nil {
		p.answer = make(chan struct{})
	}
	return p.answer
}

// fresh tells whether something has come of late, by the wall clock.
func (p *pulse) fresh() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.freshLocked()
}

func (p *pulse) freshLocked() bool {
	return p.age() < freshTime
}

// quiet tells whether it is time to ask.
func (p *pulse) quiet() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked.IsZero() && p.age() >= askAfter
}

// age returns how long ago something came, by the clock that says more: one may
// have stood still, the other may have been set back. mu must be held.
func (p *pulse) age() time.Duration {
	return max(time.Since(p.heard), time.Now().Round(0).Sub(p.heard.Round(0)))
}

// progress notes that what was sent is still being taken, if by the other side's
// kernel: the answer may come behind it.
func (p *pulse) progress() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.asked.IsZero() {
		p.asked = time.Now()
	}
}

// silence returns since when an answer is due that the reader waits for, and
// for how long; zero if none is.
func (p *pulse) silence() (since time.Time, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked.IsZero() || p.waiting.IsZero() {
		return time.Time{}, 0
	}
	since = p.asked
	if p.waiting.After(since) {
		since = p.waiting
	}
	return since, time.Since(since)
}

// doubtful tells whether an answer is overdue.
func (p *pulse) doubtful() bool {
	_, d := p.silence()
	p.mu.Lock()
	defer p.mu.Unlock()
	return d >= doubtTime || !p.asked.IsZero() && !p.freshLocked()
}
