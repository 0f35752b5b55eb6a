package tunnel

import "time"

// The server side of all Kubernetes runtimes is moby/spdystream. It hands the
// frames that it reads to five workers, those of a stream always to the same
// one, by the stream's number, and PING frames to each in turn. A worker waits
// until the runtime has taken what it is at; when fifty frames are queued for
// it, the server stops reading, and nothing on the connection moves any more.
// There is no window to keep to: the server has none of SPDY/3.1's (2.6.8), and a
// reset waits in the queue with the rest. If the runtime has ended a stream
// without reading all of it (the port was closed, the pod reset or didn't want
// more), the worker waits for good.
//
// So we keep what is under way to each worker, a lane, below what would stop
// the reading, as long as streams share a connection: a pod that doesn't read
// then holds up its own lane alone. And a lane that had a stream's bytes is not
// used for another stream until it is certain that they were taken. The answer
// to a PING proves that: the worker got to it. Five in a row ask all of them.
const (
	workers = 5
	// maxQueueFrames and maxQueueBytes bound what is under way to a lane.
	maxQueueFrames = 40
	maxQueueBytes  = 1 << 20
	// maxQueuePings bounds the questions that wait with the frames.
	maxQueuePings = 8
)

// workerQueue is what was sent to one of the server's workers. Frames are counted from
// the connection's beginning.
type workerQueue struct {
	streams int // how many there are

	sentFrames, ackedFrames int // frames: sent, and known to be taken
	sentBytes, ackedBytes   int64
	reuseAfter              int // the frame that must be taken for another stream to use the lane

	pendingPings int    // questions without an answer
	probe        uint32 // the one of them that counts; 0 if there is none
	probedAt     time.Time
	probeFrames  int // what the answer proves
	probeBytes   int64
}

// full tells whether no more should be under way to it.
func (l *workerQueue) full() bool {
	return l.sentFrames-l.ackedFrames >= maxQueueFrames || l.sentBytes-l.ackedBytes >= maxQueueBytes
}

// usable tells whether another stream may use it.
func (l *workerQueue) usable() bool {
	late := l.probe != 0 && time.Since(l.probedAt) >= doubtTimeout // whatever it is at
	return !l.full() && l.reuseAfter <= l.ackedFrames && !late
}

// pingDue tells whether to ask, so that the answer comes before the lane is full.
func (l *workerQueue) pingDue() bool {
	return l.probe == 0 && (l.sentFrames-l.ackedFrames >= maxQueueFrames*3/4 || l.sentBytes-l.ackedBytes >= maxQueueBytes/2)
}

// stuck tells whether nothing is taken that must be, and hasn't been for so long.
func (l *workerQueue) stuck(d time.Duration) bool {
	return l.probe != 0 && l.reuseAfter > l.ackedFrames && time.Since(l.probedAt) >= d
}

// ping notes that the answer to a ping will prove what was sent so far.
func (l *workerQueue) ping(ping uint32) {
	l.pendingPings++
	if l.probe == 0 {
		l.probe, l.probedAt, l.probeFrames, l.probeBytes = ping, time.Now(), l.sentFrames, l.sentBytes
	}
}

// pong takes the answer to a ping.
func (l *workerQueue) pong(ping uint32) {
	l.pendingPings = max(0, l.pendingPings-1)
	if l.probe == ping {
		l.probe, l.ackedFrames, l.ackedBytes = 0, l.probeFrames, l.probeBytes
	}
}

func queueOf(stream uint32) int { return int(stream % workers) }
