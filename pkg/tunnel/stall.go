package tunnel

import "time"

// What becomes of a client that is slow, on an upstream that it shares.

const (
	// stalledClientGrace is how long a client that takes nothing may hold up another
	// stream of its upstream that waits for bytes, slowClientGrace one that takes some.
	stalledClientGrace = time.Second
	slowClientGrace    = 5 * time.Second
	// One waits for bytes if its client has said something within replyWindow and
	// had no answer, or if it got some within flowWindow.
	replyWindow = time.Minute
	flowWindow  = 10 * time.Second
	// starvationCheckInterval is how often it is looked whether one waits.
	starvationCheckInterval = 100 * time.Millisecond
)

// awaitClientLocked waits until the client has taken something. It is false if another
// stream of the upstream has waited for that for too long. mu must be held.
func (s *stream) awaitClientLocked() bool {
	began, before := time.Now(), s.written
	if s.blockingSince.IsZero() {
		s.blockingSince = began
	}
	check := time.NewTicker(starvationCheckInterval)
	defer check.Stop()
	for s.err == nil && s.written == before && s.up.isShared() {
		patience := slowClientGrace
		if time.Since(began) >= stalledClientGrace {
			patience = stalledClientGrace
		}
		if s.up.othersStarving(s, s.blockingSince, patience) {
			return false
		}
		s.waitLocked(check.C)
	}
	return true
}

// starving tells whether the client seems to wait for bytes of the pod's, and has
// got none for so long, which counts from since on.
func (s *stream) starving(since time.Time, patience time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.direct || s.flushing || len(s.backlog) > 0 {
		return false // it has some to take
	}
	said := time.Unix(0, s.lastSent.Load())
	asks := said.After(s.lastProgress) && time.Since(said) < replyWindow
	flows := s.received > 0 && since.Sub(s.lastProgress) < flowWindow
	if asks && said.After(since) {
		since = said
	}
	if s.lastProgress.After(since) {
		since = s.lastProgress
	}
	return (asks || flows) && time.Since(since) >= patience
}
