package fwd

import (
	"context"
	"time"
)

const (
	// quietTime is how long nothing may come for an answer to be complete.
	quietTime = 1500 * time.Millisecond
	// holdBackTime is how long the client's end is held back at most if there is
	// no answer.
	holdBackTime = 30 * time.Second
	// deliverTime is how long what a client said last may take to arrive once
	// it has gone.
	deliverTime = 2 * time.Second
	// firstLook and lastLook are between two looks at whether the client has
	// gone: its end comes before the system has taken its socket away.
	firstLook = 10 * time.Millisecond
	lastLook  = 500 * time.Millisecond
)

// end is what follows when the client says no more. The runtime may cut the
// connection off a moment after that is passed on (containerd: one second), so
// it is held back until the answer is complete, as far as one can tell. A
// client that has gone altogether waits for nothing: its stream is closed, at
// once if what it said last was answered.
func (u *upload) end(ctx context.Context) {
	ended, left := time.Now(), false
	for look := firstLook; ; look = min(2*look, lastLook) {
		if !left && u.gone != nil && u.gone(u.client) {
			if !u.said || u.answered() {
				u.breakOff(errClientGone)
				return
			}
			left = true
			close(u.left)
			u.passEnd()
		}
		came, quiet := u.received()
		switch {
		case left && u.delivered():
			u.breakOff(errClientGone)
			return
		case came > u.before && quiet >= quietTime, came <= u.before && time.Since(ended) >= holdBackTime:
			u.passEnd()
		case came > u.before: // be there when the time is over
			look = min(look, quietTime-quiet)
		}
		select {
		case <-ctx.Done():
			return
		case <-u.over:
			return
		case <-time.After(look):
		}
	}
}

// answered tells whether something came from the pod after what the client said
// last.
func (u *upload) answered() bool {
	came, _ := u.received()
	return came > u.before
}

// received returns how many bytes have come from the pod, and for how long no
// more have.
func (u *upload) received() (came int64, quiet time.Duration) {
	u.mu.Lock()
	stream := u.stream
	u.mu.Unlock()
	if stream == nil {
		return 0, 0
	}
	came, last := stream.Received()
	return came, time.Since(last)
}

// passEnd passes on the client's end, once, to the stream that there is or to
// the one that comes.
func (u *upload) passEnd() {
	u.mu.Lock()
	stream, first := u.stream, !u.fin
	if first {
		u.fin, u.finAt = true, time.Now()
	}
	u.mu.Unlock()
	if stream != nil && first {
		_ = stream.CloseWrite() // if it is broken, its Read says so
	}
}

// delivered tells whether what the client said last has had the time to arrive.
func (u *upload) delivered() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.stream != nil && time.Since(u.finAt) >= deliverTime
}

// awaitDelivery waits, if the client has gone and has said something that was
// not answered, until that has arrived or ctx ends: its client's socket refuses
// the answer, which is no reason to close the stream.
func (u *upload) awaitDelivery(ctx context.Context) {
	select {
	case <-u.left:
		<-ctx.Done() // the uploader ends it
	default:
	}
}
