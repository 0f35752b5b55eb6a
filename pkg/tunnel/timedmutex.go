package tunnel

import "time"

// timedMutex is a mutex that one can wait for no longer than one wants.
type timedMutex chan struct{}

func newTimedMutex() timedMutex { return make(timedMutex, 1) }

func (t timedMutex) Lock() { t <- struct{}{} }

func (t timedMutex) Unlock() { <-t }

func (t timedMutex) TryLock() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
		return false
	}
}

// tryLockFor tells whether it has locked.
func (t timedMutex) tryLockFor(d time.Duration) bool {
	if t.TryLock() {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case t <- struct{}{}:
		return true
	case <-timer.C:
		return false
	}
}
