package fwd

import (
	"context"
	"time"
)

const (
	// quietWindow is how long the pod must send nothing for its response to count
	// as complete.
	quietWindow = 1500 * time.Millisecond
	// halfCloseTimeout is how long the client's end is held back without a
	// response.
	halfCloseTimeout = 30 * time.Second
	// deliveryGrace is how long the client's last bytes may take to arrive after
	// the client has disconnected.
	deliveryGrace = 2 * time.Second
	// minGonePollInterval and maxGonePollInterval bound the interval between
	// checks for a disconnected client. Its end arrives before the system has
	// removed its socket.
	minGonePollInterval = 10 * time.Millisecond
	maxGonePollInterval = 500 * time.Millisecond
)

// end handles the end of the client's sending half. Once the end is passed on, the
// container runtime may soon cut the connection off (containerd: after one second).
// So it is held back until the response seems complete. If the client has
// disconnected completely, nobody waits for a response, and the stream is closed:
// immediately if the client's last bytes were answered, otherwise after
// deliveryGrace.
func (u *upload) end(ctx context.Context) {
	endedAt, gone := time.Now(), false
	for interval := minGonePollInterval; ; interval = min(2*interval, maxGonePollInterval) {
		if !gone && u.isClientGone != nil && u.isClientGone(u.client) {
			if !u.sentAny || u.answered() {
				u.abort(ErrClientGone)
				return
			}
			gone = true
			close(u.clientGone)
			u.closeUpstream()
		}
		received, quiet := u.received()
		answered := received > u.receivedBefore
		switch {
		case gone && u.delivered():
			u.abort(ErrClientGone)
			return
		case answered && quiet >= quietWindow, !answered && time.Since(endedAt) >= halfCloseTimeout:
			u.closeUpstream()
		case answered: // check again when quietWindow is over
			interval = min(interval, quietWindow-quiet)
		}
		select {
		case <-ctx.Done():
			return
		case <-u.podDone:
			return
		case <-time.After(interval):
		}
	}
}

// answered reports whether the pod has sent anything since the client's last
// bytes.
func (u *upload) answered() bool {
	received, _ := u.received()
	return received > u.receivedBefore
}

// received returns how many bytes the pod has sent, and how long ago it sent the
// last of them.
func (u *upload) received() (n int64, quiet time.Duration) {
	u.mu.Lock()
	stream := u.stream
	u.mu.Unlock()
	if stream == nil {
		return 0, 0
	}
	n, last := stream.Received()
	return n, time.Since(last)
}

// closeUpstream passes on the client's end, once, to the current stream or to
// the next one that is attached.
func (u *upload) closeUpstream() {
	u.mu.Lock()
	stream, first := u.stream, !u.ended
	if first {
		u.ended, u.endSentAt = true, time.Now()
	}
	u.mu.Unlock()
	if stream != nil && first {
		_ = stream.CloseWrite() // Read returns the error of a broken stream
	}
}

// delivered reports whether the client's last bytes have had deliveryGrace to
// arrive.
func (u *upload) delivered() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.stream != nil && time.Since(u.endSentAt) >= deliveryGrace
}

// awaitDelivery waits until ctx ends if the client has disconnected with
// unanswered bytes on their way. The client's socket then rejects the response,
// which is no reason to close the stream; end closes it.
func (u *upload) awaitDelivery(ctx context.Context) {
	select {
	case <-u.clientGone:
		<-ctx.Done()
	default:
	}
}
