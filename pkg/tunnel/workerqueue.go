package tunnel

import "time"

// The server side of all Kubernetes runtimes is moby/spdystream. It distributes
// the frames that it reads to the queues of five workers: those of a stream by
// the stream's ID, always to the same worker, and PINGs round-robin. A worker
// blocks until the runtime has taken the frame that it is at. When fifty frames
// are queued for a worker, the server stops reading, and the connection stalls.
// There is no flow-control window: the server doesn't implement SPDY/3.1's
// (2.6.8), and a reset waits in the queue like other frames. If the runtime ends
// a stream without reading all of it (the port was closed, or the pod reset the
// connection or wanted no more bytes), the worker blocks forever.
//
// Therefore, on a connection that streams share, the frames under way to each
// worker are kept below that limit: a pod that doesn't read then stalls only its
// own worker. A worker's queue that received a stream's data isn't used for
// another stream before the worker has certainly taken it. The reply to a PING
// proves that, because the PING went through the same queue. Five PINGs in a row
// reach all workers.
const (
	workers = 5
	// maxQueueFrames and maxQueueBytes bound the data under way to a worker.
	maxQueueFrames = 40
	maxQueueBytes  = 1 << 20
	// maxQueuePings bounds the PINGs that are queued with the frames.
	maxQueuePings = 8
)

// workerQueue tracks the frames sent to one of the server's workers. Frames are
// counted from the beginning of the connection.
type workerQueue struct {
	streams int // that use the queue

	sentFrames, ackedFrames int // sent, and certainly taken by the worker
	sentBytes, ackedBytes   int64
	reuseAfter              int // the frame to be acked before another stream may use the queue

	pendingPings int    // PINGs without a reply
	probe        uint32 // the pending PING whose reply acks frames; 0 if none
	probedAt     time.Time
	probeFrames  int // acked by the reply to probe
	probeBytes   int64
}

// full reports whether the data under way is at its limit.
func (q *workerQueue) full() bool {
	return q.sentFrames-q.ackedFrames >= maxQueueFrames || q.sentBytes-q.ackedBytes >= maxQueueBytes
}

// usable reports whether another stream may use the queue.
func (q *workerQueue) usable() bool {
	late := q.probe != 0 && time.Since(q.probedAt) >= doubtTimeout // the worker may be blocked
	return !q.full() && q.reuseAfter <= q.ackedFrames && !late
}

// pingDue reports whether a PING is needed for its reply to come before the
// queue is full.
func (q *workerQueue) pingDue() bool {
	return q.probe == 0 && (q.sentFrames-q.ackedFrames >= maxQueueFrames*3/4 || q.sentBytes-q.ackedBytes >= maxQueueBytes/2)
}

// stuck reports whether the worker hasn't taken the data of ended streams for d.
func (q *workerQueue) stuck(d time.Duration) bool {
	return q.probe != 0 && q.reuseAfter > q.ackedFrames && time.Since(q.probedAt) >= d
}

// ping records that a PING was sent. Its reply acks all frames sent before it,
// unless an earlier PING is still the probe.
func (q *workerQueue) ping(id uint32) {
	q.pendingPings++
	if q.probe == 0 {
		q.probe, q.probedAt, q.probeFrames, q.probeBytes = id, time.Now(), q.sentFrames, q.sentBytes
	}
}

// pong records the reply to a PING.
func (q *workerQueue) pong(id uint32) {
	q.pendingPings = max(0, q.pendingPings-1)
	if q.probe == id {
		q.probe, q.ackedFrames, q.ackedBytes = 0, q.probeFrames, q.probeBytes
	}
}

// queueOf returns the index of the queue for the stream with an ID.
func queueOf(id uint32) int { return int(id % workers) }
