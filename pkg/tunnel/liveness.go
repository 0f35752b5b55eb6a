package tunnel

import (
	"sync"
	"time"

	"github.com/kubeshore/kubeshore/internal/wake"
)

const (
	// idlePingInterval is how long a connection may be silent before it is
	// pinged. client-go uses the same interval.
	idlePingInterval = 5 * time.Second
	// freshWindow is how recently bytes must have come for a connection to
	// count as working. It leaves room for idlePingInterval and a reply.
	freshWindow = 8 * time.Second
	// doubtTimeout is how long a reply may take before another connection is
	// tried.
	doubtTimeout = time.Second
	// silenceTimeout is how long a reply may take if another connection to the
	// same pod works; deadTimeout is the limit if that isn't known.
	silenceTimeout = 3 * time.Second
	deadTimeout    = 30 * time.Second
)

// liveness tracks whether the other side of a connection still replies. It
// compares both clocks: the monotonic clock stops while the machine sleeps, the
// wall clock doesn't.
type liveness struct {
	heard wake.Broadcast // fires when bytes come

	mu                 sync.Mutex
	lastHeard          time.Time // when bytes last came
	readerWaitingSince time.Time // zero while the reader is busy
	replyDueSince      time.Time // zero if no reply is due
}

// expectReply records that a reply is due from now on.
func (l *liveness) expectReply() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.replyDueSince.IsZero() {
		l.replyDueSince = time.Now()
	}
}

// readerWaits records that the reader waits for bytes.
func (l *liveness) readerWaits() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.readerWaitingSince = time.Now()
}

// receive records that bytes came and that the reader is busy with them.
func (l *liveness) receive() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastHeard, l.readerWaitingSince, l.replyDueSince = time.Now(), time.Time{}, time.Time{}
	l.heard.Fire()
}

// fresh reports whether bytes came within freshWindow.
func (l *liveness) fresh() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.freshLocked()
}

// freshLocked is fresh with mu held.
func (l *liveness) freshLocked() bool {
	return l.ageLocked() < freshWindow
}

// pingDue reports whether the connection has been silent for long enough to be
// pinged.
func (l *liveness) pingDue() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.replyDueSince.IsZero() && l.ageLocked() >= idlePingInterval
}

// ageLocked returns the time since bytes last came, by whichever clock shows
// more: the monotonic clock may have stopped, the wall clock may have been set
// back. mu must be held.
func (l *liveness) ageLocked() time.Duration {
	return max(time.Since(l.lastHeard), time.Now().Round(0).Sub(l.lastHeard.Round(0)))
}

// extendDue restarts the wait for a reply: the other side's kernel still
// acknowledges data, and the reply may be queued behind it.
func (l *liveness) extendDue() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.replyDueSince.IsZero() {
		l.replyDueSince = time.Now()
	}
}

// silence returns since when a reply has been due while the reader was waiting,
// and for how long; both are zero if none is due.
func (l *liveness) silence() (since time.Time, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.replyDueSince.IsZero() || l.readerWaitingSince.IsZero() {
		return time.Time{}, 0
	}
	since = l.replyDueSince
	if l.readerWaitingSince.After(since) {
		since = l.readerWaitingSince
	}
	return since, time.Since(since)
}

// overdue reports whether a reply is overdue.
func (l *liveness) overdue() bool {
	_, d := l.silence()
	l.mu.Lock()
	defer l.mu.Unlock()
	return d >= doubtTimeout || !l.replyDueSince.IsZero() && !l.freshLocked()
}
