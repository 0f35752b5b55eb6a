package tunnel

import "time"

// This file decides when a slow client is disconnected in favor of other
// streams on its upstream.

const (
	// stalledClientGrace is how long a client that reads nothing may make another
	// stream of its upstream starve; slowClientGrace applies to one that reads
	// slowly.
	stalledClientGrace = time.Second
	slowClientGrace    = 5 * time.Second
	// A stream counts as waiting for bytes if its client sent some within
	// replyWindow and got no reply, or if some came from the pod within flowWindow.
	replyWindow = time.Minute
	flowWindow  = 10 * time.Second
	// starvationCheckInterval is how often a blocked reader checks whether
	// another stream starves.
	starvationCheckInterval = 100 * time.Millisecond
)

// awaitClientLocked waits until the client has read something. It returns false
// if another stream of the upstream has starved for too long. mu must be held.
func (s *stream) awaitClientLocked() bool {
	began, before := time.Now(), s.written
	if s.blockingSince.IsZero() {
		s.blockingSince = began
	}
	check := time.NewTicker(starvationCheckInterval)
	defer check.Stop()
	for s.err == nil && s.written == before && s.up.isShared() {
		grace := slowClientGrace
		if time.Since(began) >= stalledClientGrace {
			grace = stalledClientGrace
		}
		if s.up.othersStarving(s, s.blockingSince, grace) {
			return false
		}
		s.waitLocked(check.C)
	}
	return true
}

// starving reports whether the client seems to wait for bytes from the pod, and
// has got none for at least grace, not counting the time before since.
func (s *stream) starving(since time.Time, grace time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.direct || s.flushing || len(s.backlog) > 0 {
		return false // there are bytes to read
	}
	lastSent := time.Unix(0, s.lastSent.Load())
	awaitsReply := lastSent.After(s.lastProgress) && time.Since(lastSent) < replyWindow
	receives := s.received > 0 && since.Sub(s.lastProgress) < flowWindow
	if awaitsReply && lastSent.After(since) {
		since = lastSent
	}
	if s.lastProgress.After(since) {
		since = s.lastProgress
	}
	return (awaitsReply || receives) && time.Since(since) >= grace
}
