package tunnel

import "time"

// What becomes of a client that is slow, on an upstream that it shares.

const (
	// stallTime is how long a client that takes nothing may hold up another
	// stream of its upstream that waits for bytes, slowTime one that takes some.
	stallTime = time.Second
	slowTime  = 5 * time.Second
	// One waits for bytes if its client has said something within saidTime and
	// had no answer, or if it got some within flowTime.
	saidTime = time.Minute
	flowTime = 10 * time.Second
	// lookTime is how often it is looked whether one waits.
	lookTime = 100 * time.Millisecond
)

// clientTakes waits until the client has taken something. It is false if another
// stream of the upstream has waited for that for too long. mu must be held.
func (s *stream) clientTakes() bool {
	began, before := time.Now(), s.written
	if s.held.IsZero() {
		s.held = began
	}
	look := time.AfterFunc(lookTime, s.wake)
	defer look.Stop()
	for s.err == nil && s.written == before && s.up.shared() {
		patience := slowTime
		if time.Since(began) >= stallTime {
			patience = stallTime
		}
		if s.up.starves(s, s.held, patience) {
			return false
		}
		s.changed.Wait()
		look.Reset(lookTime)
	}
	return true
}

func (s *stream) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed.Broadcast()
}

// starves tells whether the client seems to wait for bytes of the pod's, and has
// got none for so long, which counts from since on.
func (s *stream) starves(since time.Time, patience time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.direct || s.draining || len(s.backlog) > 0 {
		return false // it has some to take
	}
	said := time.Unix(0, s.said.Load())
	asks := said.After(s.last) && time.Since(said) < saidTime
	flows := s.received > 0 && since.Sub(s.last) < flowTime
	if asks && said.After(since) {
		since = said
	}
	if s.last.After(since) {
		since = s.last
	}
	return (asks || flows) && time.Since(since) >= patience
}
