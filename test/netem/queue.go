package netem

import (
	"context"
	"sync"
	"time"

	"github.com/kubeshore/kubeshore/internal/wake"
)

const (
	maxQueuedBytes  = 16 << 20 // per direction of a connection
	segmentOverhead = 64       // memory of a segment in addition to its data
)

// segment is the data of one read, or the end of one side.
type segment struct {
	due  time.Time
	data []byte
	end  error // nil for data, io.EOF for an orderly close
}

// queue holds the data in transit in one direction. One goroutine pushes,
// another one pops. The zero value is an empty queue.
type queue struct {
	mu       sync.Mutex
	segments []segment
	size     int
	changed  wake.Broadcast
}

// push appends a segment as soon as there is room. It returns false if ctx
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

// pop removes the first segment as soon as there is one. It returns false if
// ctx ended before.
func (q *queue) pop(ctx context.Context) (s segment, ok bool) {
	ok = q.update(ctx, func() bool {
		if len(q.segments) == 0 {
			return false
		}
		s = q.segments[0]
		q.segments[0] = segment{} // release the data
		q.segments = q.segments[1:]
		q.size -= len(s.data) + segmentOverhead
		return true
	})
	return s, ok
}

// update calls change with q.mu held, again after each change to the queue,
// until it succeeds. It returns false if ctx ended before.
func (q *queue) update(ctx context.Context, change func() bool) bool {
	for {
		changed := q.changed.C()
		q.mu.Lock()
		done := change()
		q.mu.Unlock()
		if done {
			q.changed.Fire()
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}
