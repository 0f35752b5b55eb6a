package tunnel

import (
	"maps"
	"slices"
	"time"
)

// What goes to the server on one connection, and whether it gets there.

// nextIDLocked returns the next number of a data stream whose lane, and whose error
// stream's, are usable and have the fewest streams' bytes, and how many those
// are: a stream that gets stuck holds up what comes behind it in its lane.
func (u *upstream) nextIDLocked() (id uint32, neighbours int, ok bool) {
	if u.draining {
		return 0, 0, false
	}
	for i := range uint32(workers) {
		next := u.minNextID + 2 + 4*i // so each lane comes once
		data, fault := &u.queues[queueOf(next)], &u.queues[queueOf(next-2)]
		if !data.usable() || !fault.usable() {
			continue
		}
		if n := data.streams + fault.streams; !ok || n < neighbours {
			id, neighbours, ok = next, n, true
		}
	}
	return id, neighbours, ok
}

// othersStarving tells whether a stream has held up another one that waits for bytes
// for too long, which counts from since on. The upstream's reader alone calls it:
// it looks into one stream while it has the mu of the other.
func (u *upstream) othersStarving(by *stream, since time.Time, patience time.Duration) bool {
	u.mu.Lock()
	streams := slices.Collect(maps.Values(u.streams))
	u.mu.Unlock()
	return slices.ContainsFunc(streams, func(s *stream) bool { return s != by && s.starving(since, patience) })
}

// fitness says how well an upstream can take one more stream.
type fitness int

const (
	unfit       fitness = iota
	crowded             // it would have to wait for what others carry, or they are many
	queueShared         // it would share a lane: if a pod stops reading, others come to suffer
	roomy
)

// fitness tells how well a further stream would get on here.
func (u *upstream) fitness() fitness {
	u.mu.Lock()
	_, neighbours, free := u.nextIDLocked()
	free = free && u.err == nil
	streams := slices.Collect(maps.Values(u.streams))
	slow := !u.writingSince.IsZero() && time.Since(u.writingSince) > slowWriteTimeout
	// A stream that is alone has no bound: the server may not read any more.
	full := u.queueFullLocked()
	u.mu.Unlock()
	if !free || slow || full || u.liveness.overdue() {
		return unfit
	}
	switch {
	case slices.ContainsFunc(streams, (*stream).clientSlow):
		return unfit
	case len(streams) >= workers, slices.ContainsFunc(streams, (*stream).heavy):
		return crowded
	case neighbours > 0:
		return queueShared
	}
	return roomy
}

// isFit tells whether a stream would get on here that has it for itself.
func (u *upstream) isFit() bool { return u.fitness() != unfit }

// noteSentLocked notes that a frame goes to a stream.
func (u *upstream) noteSentLocked(id uint32, bytes int) {
	l := &u.queues[queueOf(id)]
	l.sentFrames++
	l.sentBytes += int64(bytes)
	if l.pingDue() {
		u.pingWorkersLocked()
	}
}

// pingWorkersLocked has the server say that it is there, and that its workers are. It
// does nothing if a worker has not answered for long: questions would fill its
// queue too.
func (u *upstream) pingWorkersLocked() {
	if !u.unresponsiveLocked() {
		u.pingLocked(workers)
	}
}

// pingLocked asks that many workers, one after the other.
func (u *upstream) pingLocked(n int) {
	for range n {
		ping := 2*u.pingCount + 1
		u.queues[u.pingCount%workers].ping(ping)
		u.queuedControl = appendPing(u.queuedControl, ping)
		u.pingCount++
	}
	u.liveness.expectReply()
}

// unresponsiveLocked tells whether a lane doesn't answer.
func (u *upstream) unresponsiveLocked() bool {
	return slices.ContainsFunc(u.queues[:], func(l workerQueue) bool { return l.pendingPings >= maxQueuePings })
}

// pingWorkers has the server give a sign of life.
func (u *upstream) pingWorkers() {
	u.mu.Lock()
	u.pingWorkersLocked()
	u.mu.Unlock()
	u.sendControl(nil)
}

// pong takes the answer to a ping of ours.
func (u *upstream) pong(ping uint32) {
	u.mu.Lock()
	defer u.mu.Unlock()
	l := &u.queues[ping/2%workers]
	if l.probe == ping && l.probedAt.After(u.ackedAt) {
		u.ackedAt = l.probedAt
	}
	l.pong(ping)
	u.freed.Fire()
}

// echoPing sends a PING of the server's back. It takes its worker's turn like one of
// ours.
func (u *upstream) echoPing(ping uint32) {
	u.mu.Lock()
	u.pingCount++
	u.queuedControl = appendPing(u.queuedControl, ping)
	u.mu.Unlock()
	u.sendControl(nil)
}

// dropStream breaks a stream off that the server has given up, or that is given up
// because of the server.
func (u *upstream) dropStream(s *stream, err error) {
	s.fail(err)
	u.remove(s) // who waits to send for it needn't any more
}

// queueFull tells whether the server may have stopped reading, as a pod doesn't
// read: its silence then says nothing.
func (u *upstream) queueFull() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.queueFullLocked()
}

func (u *upstream) queueFullLocked() bool {
	return slices.ContainsFunc(u.queues[:], func(l workerQueue) bool { return l.full() })
}

// admit waits until a stream may send a frame. It then holds writing, and
// returns true; it returns false if the stream is not on the upstream any more.
func (u *upstream) admit(id uint32, bytes int) bool {
	for {
		u.writeMu.Lock()
		u.mu.Lock()
		s := u.streams[id]
		if s == nil {
			u.mu.Unlock()
			u.release()
			return false
		}
		if len(u.streams) == 1 || !u.mustWaitLocked(&u.queues[queueOf(id)]) {
			s.uploads = s.uploads || bytes > frameHeaderSize
			u.noteSentLocked(id, bytes)
			u.writerID = id
			u.mu.Unlock()
			return true
		}
		u.mu.Unlock()
		u.release()
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

// mustWaitLocked tells whether no more should be under way to a lane. If another
// one doesn't answer, there are no answers to wait for: it is trusted then.
func (u *upstream) mustWaitLocked(l *workerQueue) bool {
	return l.full() && (l.pendingPings >= maxQueuePings || !u.unresponsiveLocked())
}

// unackedBytes returns how many bytes clients have said of which the server hasn't
// shown yet that it took them.
func (u *upstream) unackedBytes() (bytes int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.queues {
		bytes += u.queues[i].sentBytes - u.queues[i].ackedBytes
	}
	return bytes
}

// remove forgets a stream: what still comes for it is passed over. Its lane is
// of no use to others before what it had is taken.
func (u *upstream) remove(s *stream) {
	u.mu.Lock()
	if u.streams[s.id] == s {
		delete(u.streams, s.id)
		l := &u.queues[queueOf(s.id)]
		l.streams--
		if s.uploads {
			l.reuseAfter = l.sentFrames
		}
		if _, _, ok := u.nextIDLocked(); !ok || u.fewUsableLocked() {
			u.pingWorkersLocked()
		}
	}
	u.freed.Fire()
	u.mu.Unlock()
	u.sendControl(nil)
}

// fewUsableLocked tells whether it is time to ask for proofs that make lanes usable
// again, so that they come before the next streams do.
func (u *upstream) fewUsableLocked() bool {
	n := 0
	for i := range u.queues {
		if l := &u.queues[i]; !l.usable() && l.probe == 0 {
			n++
		}
	}
	return n >= 2
}
