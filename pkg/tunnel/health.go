package tunnel

import (
	"context"
	"time"
)

const (
	// stuckQueueTimeout is how long a lane may not take what ended streams had for the
	// upstream to be given up for new ones.
	stuckQueueTimeout = 2 * time.Second
	// streamReplyTimeout is how long the server, which gives signs of life, may take to
	// begin with a stream.
	streamReplyTimeout = 3 * time.Second
	// minLineRate is how many bytes a second the way to the server carries at least.
	minLineRate = 16 << 10
)

// check asks the server for a sign of life if it is time for it, and breaks
// the upstream if it is certain that none will come. proven is when the dialling
// of another connection to the same place began that worked. It tells whether
// an answer is overdue.
func (u *upstream) check(proven time.Time) (doubtful bool) {
	ignored, stuck := u.checkStreams()
	for _, s := range ignored {
		u.dropStream(s, errNotStarted)
	}
	for _, s := range stuck {
		u.dropStream(s, errStuck)
	}
	u.sendControl(nil)
	if u.sendProgressed() {
		u.liveness.extendDue()
	}
	since, silent := u.liveness.silence()
	patience := deadTimeout
	if proven.After(since) {
		patience = silenceTimeout
	}
	// The question may stand behind what clients have said, on a slow line.
	patience += time.Duration(u.unackedBytes()) * time.Second / minLineRate
	if silent >= patience && !u.queueFull() {
		u.fail(errUnresponsive)
	}
	return silent >= doubtTimeout
}

// sendProgressed tells whether what we sent gets to the other side's kernel: answers
// may have to wait behind it. Where that can't be known, a client's bytes that
// are being written are taken for it. It is for check alone.
func (u *upstream) sendProgressed() bool {
	acked, known := u.bulk.acked()
	if !known {
		u.mu.Lock()
		defer u.mu.Unlock()
		return u.writerID != 0
	}
	before := u.kernelAcked
	u.kernelAcked = acked
	return acked != before
}

// checkStreams asks where a proof is missing, and gives the upstream up for new streams
// if the server has got stuck. It returns the streams that the server has not
// begun with, and those that it will never go on with.
func (u *upstream) checkStreams() (ignored, stuck []*stream) {
	u.mu.Lock()
	defer u.mu.Unlock()
	ask := false
	for i := range u.queues {
		l := &u.queues[i]
		ask = ask || l.probe == 0 && l.sentFrames > l.ackedFrames
		u.draining = u.draining || l.stuck(stuckQueueTimeout)
	}
	for _, s := range u.streams {
		begun, since := s.replied && s.errorReplied, time.Since(s.openedAt)
		switch {
		case !begun && since >= streamReplyTimeout && u.ackedAt.After(s.openedAt), !begun && since >= deadTimeout:
			u.draining = true
			ignored = append(ignored, s)
		case u.queues[queueOf(s.id)].stuck(deadTimeout):
			stuck = append(stuck, s)
		}
	}
	switch {
	case ask:
		u.pingWorkersLocked()
	case u.liveness.pingDue() && !u.unresponsiveLocked():
		u.pingLocked(1) // any of them will do for a sign of life
	}
	return ignored, stuck
}

// awaitReply waits for a sign of life, a moment. Without one the upstream is
// doubtful until it comes.
func (u *upstream) awaitReply(ctx context.Context) bool {
	next := u.liveness.heard.C()
	if u.liveness.fresh() { // it has come
		return true
	}
	overdue := time.NewTimer(doubtTimeout)
	defer overdue.Stop()
	select {
	case <-next:
		return u.alive()
	case <-overdue.C:
	case <-ctx.Done():
	}
	return false
}

// neverAnswered tells whether the upstream had streams and not one got an answer.
func (u *upstream) neverAnswered() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.minNextID > 1 && !u.gotData.Load()
}

// drain has the upstream take no more streams: what it leads to is gone.
func (u *upstream) drain() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.draining = true
}

// isDraining tells whether the upstream is of no more use once its streams have ended.
func (u *upstream) isDraining() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.draining
}

// alive tells whether the upstream isn't broken.
func (u *upstream) alive() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err == nil
}
