// Package wake has the two ways in which goroutines of kubeshore wake each
// other: a [Trigger] for one that does the work, a [Broadcast] for any number
// that watch.
package wake

import "sync"

// Trigger wakes one goroutine. Triggers that it has not yet received are merged
// into one. The zero Trigger is not usable; see [NewTrigger].
type Trigger struct{ c chan struct{} }

// NewTrigger returns a Trigger that has not fired.
func NewTrigger() Trigger { return Trigger{make(chan struct{}, 1)} }

// Fire wakes the receiver of C, now or when it next receives. It never blocks.
// Any goroutine may call it.
func (t Trigger) Fire() {
	select {
	case t.c <- struct{}{}:
	default:
	}
}

// C receives a value after Fire was called, one for all calls since the last.
func (t Trigger) C() <-chan struct{} { return t.c }

// Broadcast wakes all goroutines that wait for a change. The zero Broadcast is
// ready to use. Any goroutine may call its methods.
type Broadcast struct {
	mu sync.Mutex
	c  chan struct{}
}

// C returns a channel that is closed by the next call of Fire. A caller that
// must not miss a change calls C before it reads the state.
func (b *Broadcast) C() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.c == nil {
		b.c = make(chan struct{})
	}
	return b.c
}

// Fire closes the channel that C has returned since the last call, if any.
func (b *Broadcast) Fire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.c != nil {
		close(b.c)
		b.c = nil
	}
}
