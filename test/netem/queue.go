package netem

import (
	"context"
	"sync"
	"time"
)

const (
	maxQueuedBytes  = 16 << 20 // on their way in one direction of a connection
	segmentOverhead = 64       // what a segment costs besides its bytes
)

// segment is what was read at once, or how one side has ended.
type segment struct {
	due  time.Time
	data []byte
	end  error // nil for data, io.EOF for an end in order
}

// queue is what is on its way in one direction. One goroutine pushes, another
// pops. Its zero value is empty.
type queue struct {
	mu       sync.Mutex
	segments []segment
	size     int
	changed  chan struct{} // closed at the next change; nil if nobody waits
}

// push appends a segment, as soon as there is room. It returns false if ctx
// ended before.
func (q *queue) push(ctx context.Context, s segment) bool {
	return q.update(ctx, func() bool {
		if q.size >= maxQueuedBytes {
			return false
		}
		q.segments = append(q.segments, s)
		q.size += len(s.data) + segmentOverhead
		return true
	})
}

// pop takes the first segment, as soon as there is one. It returns false if
// ctx ended before.
func (q *queue) pop(ctx context.Context) (s segment, ok bool) {
	ok = q.update(ctx, func() bool {
		if len(q.segments) == 0 {
			return false
		}
		s = q.segments[0]
		q.segments[0] = segment{} // its bytes are not ours any more
		q.segments = q.segments[1:]
		q.size -= len(s.data) + segmentOverhead
		return true
	})
	return s, ok
}

// update changes the queue, again after each change by the other side until it
// can be done.
func (q *queue) update(ctx context.Context, change func() bool) bool {
	for {
		q.mu.Lock()
		done := change()
		if done && q.changed != nil {
			close(q.changed)
			q.changed = nil
		}
		if !done && q.changed == nil {
			q.changed = make(chan struct{})
		}
		changed := q.changed
		q.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}
