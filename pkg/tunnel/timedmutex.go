package tunnel

import "time"

// timedMutex is a mutex with an acquisition timeout.
type timedMutex chan struct{}

func newTimedMutex() timedMutex { return make(timedMutex, 1) }

func (m timedMutex) Lock() { m <- struct{}{} }

func (m timedMutex) Unlock() { <-m }

func (m timedMutex) TryLock() bool {
	select {
	case m <- struct{}{}:
		return true
	default:
		return false
	}
}

// tryLockFor waits up to d for the lock and reports whether it acquired it.
func (m timedMutex) tryLockFor(d time.Duration) bool {
	if m.TryLock() {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case m <- struct{}{}:
		return true
	case <-timer.C:
		return false
	}
}
