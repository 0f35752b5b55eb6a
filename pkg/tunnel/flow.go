package tunnel

import (
	"maps"
	"slices"
	"time"
)

// This file controls the data that an upstream sends, and tracks whether the server
// takes it.

// nextIDLocked returns the ID for the next data stream. Its worker's queue, and
// that of its error stream, are usable and have the fewest neighbors: the
// streams that would be held up if this one got stuck. ok is false if no queue is
// usable. mu must be held.
func (u *upstream) nextIDLocked() (id uint32, neighbors int, ok bool) {
	if u.draining {
		return 0, 0, false
	}
	for i := range uint32(workers) {
		next := u.minNextID + 2 + 4*i // visits each queue once
		dataQueue, errorQueue := &u.queues[queueOf(next)], &u.queues[queueOf(next-2)]
		if !dataQueue.usable() || !errorQueue.usable() {
			continue
		}
		if n := dataQueue.streams + errorQueue.streams; !ok || n < neighbors {
			id, neighbors, ok = next, n, true
		}
	}
	return id, neighbors, ok
}

// othersStarving reports whether another stream than by has waited for bytes for
// longer than grace, not counting the time before since. Only the upstream's
// reader may call it, because it locks a stream's mu while it holds that of
// another stream.
func (u *upstream) othersStarving(by *stream, since time.Time, grace time.Duration) bool {
	u.mu.Lock()
	streams := slices.Collect(maps.Values(u.streams))
	u.mu.Unlock()
	return slices.ContainsFunc(streams, func(s *stream) bool { return s != by && s.starving(since, grace) })
}

// fitness is how well an upstream suits one more stream.
type fitness int

const (
	unfit       fitness = iota
	crowded             // there are many streams, or one with much traffic
	queueShared         // the stream would share a worker with others
	roomy
)

// fitness returns how well the upstream suits one more stream.
func (u *upstream) fitness() fitness {
	u.mu.Lock()
	_, neighbors, usable := u.nextIDLocked()
	usable = usable && u.err == nil
	streams := slices.Collect(maps.Values(u.streams))
	slow := !u.writingSince.IsZero() && time.Since(u.writingSince) > slowWriteTimeout
	// A lone stream may exceed the queue's limit. The server may have stopped
	// reading then.
	full := u.queueFullLocked()
	u.mu.Unlock()
	if !usable || slow || full || u.liveness.overdue() {
		return unfit
	}
	switch {
	case slices.ContainsFunc(streams, (*stream).clientSlow):
		return unfit
	case len(streams) >= workers, slices.ContainsFunc(streams, (*stream).heavy):
		return crowded
	case neighbors > 0:
		return queueShared
	}
	return roomy
}

// isFit reports whether the upstream can take one more stream at all.
func (u *upstream) isFit() bool { return u.fitness() != unfit }

// noteSentLocked records that a frame is sent to a stream. mu must be held.
func (u *upstream) noteSentLocked(id uint32, bytes int) {
	q := &u.queues[queueOf(id)]
	q.sentFrames++
	q.sentBytes += int64(bytes)
	if q.pingDue() {
		u.pingWorkersLocked()
	}
}

// pingWorkersLocked queues a PING for each of the server's workers. It does
// nothing if a worker is unresponsive, because PINGs would fill its queue, too.
// mu must be held.
func (u *upstream) pingWorkersLocked() {
	if !u.unresponsiveLocked() {
		u.pingLocked(workers)
	}
}

// pingLocked queues PINGs for the next n workers. mu must be held.
func (u *upstream) pingLocked(n int) {
	for range n {
		ping := 2*u.pingCount + 1
		u.queues[u.pingCount%workers].ping(ping)
		u.queuedControl = appendPing(u.queuedControl, ping)
		u.pingCount++
	}
	u.liveness.expectReply()
}

// unresponsiveLocked reports whether a worker has too many PINGs to answer. mu
// must be held.
func (u *upstream) unresponsiveLocked() bool {
	return slices.ContainsFunc(u.queues[:], func(q workerQueue) bool { return q.pendingPings >= maxQueuePings })
}

// pingWorkers sends a PING to each of the server's workers.
func (u *upstream) pingWorkers() {
	u.mu.Lock()
	u.pingWorkersLocked()
	u.mu.Unlock()
	u.sendControl(nil)
}

// pong handles the reply to one of our PINGs.
func (u *upstream) pong(ping uint32) {
	u.mu.Lock()
	defer u.mu.Unlock()
	q := &u.queues[ping/2%workers]
	if q.probe == ping && q.probedAt.After(u.ackedAt) {
		u.ackedAt = q.probedAt
	}
	q.pong(ping)
	u.freed.Fire()
}

// echoPing replies to a PING of the server. The server assigns the reply to a
// worker like one of our own PINGs, so that it counts as one.
func (u *upstream) echoPing(ping uint32) {
	u.mu.Lock()
	u.pingCount++
	u.queuedControl = appendPing(u.queuedControl, ping)
	u.mu.Unlock()
	u.sendControl(nil)
}

// dropStream breaks off a stream that the server reset, or that the server
// doesn't process.
func (u *upstream) dropStream(s *stream, err error) {
	s.fail(err)
	u.remove(s) // also wakes senders in admit
}

// queueFull reports whether a queue is full. The server may have stopped reading
// then, because of a pod that doesn't read; its silence proves nothing.
func (u *upstream) queueFull() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.queueFullLocked()
}

// queueFullLocked is queueFull with mu held.
func (u *upstream) queueFullLocked() bool {
	return slices.ContainsFunc(u.queues[:], func(q workerQueue) bool { return q.full() })
}

// admit waits until a stream may send a frame, then locks writeMu and returns
// true. It returns false, without the lock, if the stream was removed.
func (u *upstream) admit(id uint32, bytes int) bool {
	for {
		u.writeMu.Lock()
		u.mu.Lock()
		s := u.streams[id]
		if s == nil {
			u.mu.Unlock()
			u.unlockWrite()
			return false
		}
		if len(u.streams) == 1 || !u.mustWaitLocked(&u.queues[queueOf(id)]) {
			s.uploaded = s.uploaded || bytes > frameHeaderSize
			u.noteSentLocked(id, bytes)
			u.writerID = id
			u.mu.Unlock()
			return true
		}
		u.mu.Unlock()
		u.unlockWrite()
		u.mu.Lock()
		for u.streams[id] != nil && len(u.streams) > 1 && u.mustWaitLocked(&u.queues[queueOf(id)]) {
			freed := u.freed.C()
			u.mu.Unlock()
			<-freed
			u.mu.Lock()
		}
		u.mu.Unlock()
	}
}

// mustWaitLocked reports whether a queue has to be acked before more is sent to
// it. While another worker is unresponsive, no PINGs are sent and no reply would
// come; the queue may then exceed its limit. mu must be held.
func (u *upstream) mustWaitLocked(q *workerQueue) bool {
	return q.full() && (q.pendingPings >= maxQueuePings || !u.unresponsiveLocked())
}

// unackedBytes returns how many bytes were sent to the server without an ack.
func (u *upstream) unackedBytes() (bytes int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.queues {
		bytes += u.queues[i].sentBytes - u.queues[i].ackedBytes
	}
	return bytes
}

// remove removes a stream. Frames that still come for it are discarded. If it
// uploaded, no other stream uses its queue before its frames are acked.
func (u *upstream) remove(s *stream) {
	u.mu.Lock()
	if u.streams[s.id] == s {
		delete(u.streams, s.id)
		q := &u.queues[queueOf(s.id)]
		q.streams--
		if s.uploaded {
			q.reuseAfter = q.sentFrames
		}
		if _, _, ok := u.nextIDLocked(); !ok || u.fewUsableLocked() {
			u.pingWorkersLocked()
		}
	}
	u.freed.Fire()
	u.mu.Unlock()
	u.sendControl(nil)
}

// fewUsableLocked reports whether at least two queues are unusable and have no
// PING pending. Pinging them early makes them usable before the next streams
// need them. mu must be held.
func (u *upstream) fewUsableLocked() bool {
	n := 0
	for i := range u.queues {
		if q := &u.queues[i]; !q.usable() && q.probe == 0 {
			n++
		}
	}
	return n >= 2
}
