package tunnel

import (
	"sync"
	"time"

	"github.com/kubeshore/kubeshore/internal/wake"
)

const (
	// idlePingInterval is how long nothing may come before the server is asked for a
	// sign of life, as client-go does too.
	idlePingInterval = 5 * time.Second
	// freshWindow is how long ago something may have come for a connection to be
	// taken as working; it is more than idlePingInterval and an answer need.
	freshWindow = 8 * time.Second
	// doubtTimeout is how long an answer may take before another connection is
	// tried.
	doubtTimeout = time.Second
	// silenceTimeout is how long, if the other one worked; deadTimeout, if it is not
	// known whether one would.
	silenceTimeout = 3 * time.Second
	deadTimeout    = 30 * time.Second
)

// liveness knows whether the other side of a connection still answers. The
// machine may sleep in between: the monotonic clock stands still then, and the
// wall clock doesn't.
type liveness struct {
	mu                 sync.Mutex
	lastHeard          time.Time      // when something last came
	readerWaitingSince time.Time      // since when the reader waits; zero if it is busy
	replyDueSince      time.Time      // since when an answer is due; zero if none is
	heard              wake.Broadcast // fires when something comes
}

// expectReply notes that an answer is due.
func (p *liveness) expectReply() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.replyDueSince.IsZero() {
		p.replyDueSince = time.Now()
	}
}

// readerWaits notes that the reader waits for bytes.
func (p *liveness) readerWaits() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readerWaitingSince = time.Now()
}

// receive notes that bytes have come, and that the reader is now busy with them.
func (p *liveness) receive() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastHeard, p.readerWaitingSince, p.replyDueSince = time.Now(), time.Time{}, time.Time{}
	p.heard.Fire()
}

// fresh tells whether something has come of late, by the wall clock.
func (p *liveness) fresh() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.freshLocked()
}

func (p *liveness) freshLocked() bool {
	return p.ageLocked() < freshWindow
}

// pingDue tells whether it is time to ask.
func (p *liveness) pingDue() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.replyDueSince.IsZero() && p.ageLocked() >= idlePingInterval
}

// ageLocked returns how long ago something came, by the clock that says more: one may
// have stood still, the other may have been set back. mu must be held.
func (p *liveness) ageLocked() time.Duration {
	return max(time.Since(p.lastHeard), time.Now().Round(0).Sub(p.lastHeard.Round(0)))
}

// extendDue notes that what was sent is still being taken, if by the other side's
// kernel: the answer may come behind it.
func (p *liveness) extendDue() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.replyDueSince.IsZero() {
		p.replyDueSince = time.Now()
	}
}

// silence returns since when an answer is due that the reader waits for, and
// for how long; zero if none is.
func (p *liveness) silence() (since time.Time, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.replyDueSince.IsZero() || p.readerWaitingSince.IsZero() {
		return time.Time{}, 0
	}
	since = p.replyDueSince
	if p.readerWaitingSince.After(since) {
		since = p.readerWaitingSince
	}
	return since, time.Since(since)
}

// overdue tells whether an answer is overdue.
func (p *liveness) overdue() bool {
	_, d := p.silence()
	p.mu.Lock()
	defer p.mu.Unlock()
	return d >= doubtTimeout || !p.replyDueSince.IsZero() && !p.freshLocked()
}
