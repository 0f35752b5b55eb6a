package tunnel

import (
	"context"
	"time"
)

const (
	// stuckQueueTimeout is how long a worker may be stuck before its upstream
	// takes no new streams.
	stuckQueueTimeout = 2 * time.Second
	// streamReplyTimeout is how long a responsive server may take to reply to a
	// new stream.
	streamReplyTimeout = 3 * time.Second
	// minLineRate is the assumed minimum throughput to the server, in bytes per
	// second.
	minLineRate = 16 << 10
)

// check pings the server if necessary, and breaks the upstream if no reply will
// come. lastGoodDial is the start of the last successful dial to the same pod. It
// reports whether a reply is overdue.
func (u *upstream) check(lastGoodDial time.Time) (overdue bool) {
	notStarted, stuck := u.checkStreams()
	for _, s := range notStarted {
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
	timeout := deadTimeout
	if lastGoodDial.After(since) {
		timeout = silenceTimeout
	}
	// The PING may be queued behind an upload on a slow line.
	timeout += time.Duration(u.unackedBytes()) * time.Second / minLineRate
	if silent >= timeout && !u.queueFull() {
		u.fail(errUnresponsive)
	}
	return silent >= doubtTimeout
}

// sendProgressed reports whether the other side's kernel has acknowledged more
// bytes since the last call; replies may be delayed by these. Where that is
// unknown, it reports whether client data is being written. Only check may call
// it.
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

// checkStreams queues PINGs where acks are missing, and starts draining if a
// worker is stuck. It returns the streams that the server hasn't replied to, and
// those that it will never process.
func (u *upstream) checkStreams() (notStarted, stuck []*stream) {
	u.mu.Lock()
	defer u.mu.Unlock()
	unacked := false
	for i := range u.queues {
		q := &u.queues[i]
		unacked = unacked || q.probe == 0 && q.sentFrames > q.ackedFrames
		u.draining = u.draining || q.stuck(stuckQueueTimeout)
	}
	for _, s := range u.streams {
		started, age := s.replied && s.errorReplied, time.Since(s.openedAt)
		switch {
		case !started && age >= streamReplyTimeout && u.ackedAt.After(s.openedAt), !started && age >= deadTimeout:
			u.draining = true
			notStarted = append(notStarted, s)
		case u.queues[queueOf(s.id)].stuck(deadTimeout):
			stuck = append(stuck, s)
		}
	}
	switch {
	case unacked:
		u.pingWorkersLocked()
	case u.liveness.pingDue() && !u.unresponsiveLocked():
		u.pingLocked(1) // a reply from any worker will do
	}
	return notStarted, stuck
}

// awaitReply waits up to doubtTimeout until bytes come, and reports whether the
// upstream works. If not, a reply stays overdue until bytes come.
func (u *upstream) awaitReply(ctx context.Context) bool {
	heard := u.liveness.heard.C()
	if u.liveness.fresh() { // bytes came before C was called
		return true
	}
	timeout := time.NewTimer(doubtTimeout)
	defer timeout.Stop()
	select {
	case <-heard:
		return u.alive()
	case <-timeout.C:
	case <-ctx.Done():
	}
	return false
}

// neverAnswered reports whether the upstream had streams but none got data from
// the pod.
func (u *upstream) neverAnswered() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.minNextID > 1 && !u.gotData.Load()
}

// drain stops the upstream from taking new streams, because its pod is gone.
func (u *upstream) drain() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.draining = true
}

// isDraining reports whether the upstream takes no new streams and can be closed
// after the last one.
func (u *upstream) isDraining() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.draining
}

// alive reports whether the upstream isn't broken.
func (u *upstream) alive() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err == nil
}
