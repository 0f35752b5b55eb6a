package fwd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// keepSize is how much of what the client says is kept as long as it may
	// have to be said again.
	keepSize = 64 << 10
	// keepAtFirst is what the first read may bring of that.
	keepAtFirst = 4 << 10
	// verdictTime is how long a stream that takes no more has to say how it
	// ended.
	verdictTime = 5 * time.Second
)

// upload is the client's half of a connection: what the client says, to
// whichever stream there is.
//
// Until a pod has answered, what was said is kept and said anew to each stream
// that is attached. From then on nothing is kept, and bytes take the short way.
type upload struct {
	client   net.Conn
	gone     func(net.Conn) bool // Engine.Gone
	breakOff context.CancelCauseFunc
	left     chan struct{} // closed when the client has gone; what it has said last is still on its way
	over     chan struct{} // closed when the pod has ended the connection in good order

	heard atomic.Uint64 // how many bytes the client has said

	mu     sync.Mutex
	moved  *sync.Cond // stream, final or closed are other than before
	stream Stream     // where bytes go now; nil while there is none
	kept   []byte     // what the client has said, as long as it is kept
	final  bool       // no other stream will come: nothing is kept
	fault  error      // of the final stream, if it is lost
	fin    bool       // the client's end is to be passed on
	finAt  time.Time  // when it was, to the stream that there is
	closed bool

	// These are the uploader's own.
	said   bool  // the client has said something
	before int64 // how much had come from the pod when it last did
}

func newUpload(client net.Conn, gone func(net.Conn) bool, breakOff context.CancelCauseFunc) *upload {
	u := &upload{client: client, gone: gone, breakOff: breakOff, left: make(chan struct{}), over: make(chan struct{})}
	u.moved = sync.NewCond(&u.mu)
	return u
}

// run passes on what the client says, and how it ends, until ctx ends or the
// pod has ended the connection.
func (u *upload) run(ctx context.Context) {
	err := u.keep()
	if err == nil {
		err = u.pass()
	}
	if fault := err; !errors.Is(err, io.EOF) && !errors.Is(err, errClientGone) {
		// The pod doesn't take it any more. How it ended, Read knows: perhaps
		// with an answer and in good order.
		late := time.AfterFunc(verdictTime, func() {
			if !u.isOver() {
				u.breakOff(fault)
			}
		})
		defer late.Stop()
		err = u.discard()
	}
	switch {
	case u.isOver():
	case errors.Is(err, io.EOF):
		u.end(ctx)
	default:
		u.breakOff(err)
	}
}

// discard reads what the client says until it says no more, and returns why.
func (u *upload) discard() error {
	if _, err := io.Copy(io.Discard, u.client); err != nil {
		return clientError(err)
	}
	return io.EOF
}

// isOver tells whether the pod has ended the connection in good order.
func (u *upload) isOver() bool {
	select {
	case <-u.over:
		return true
	default:
		return false
	}
}

// keep reads what the client says while it may have to be said again. It
// returns nil when it needn't, or why the client says no more.
func (u *upload) keep() error {
	for {
		room, err := u.room()
		if err != nil {
			return err
		}
		n, err := u.client.Read(room)
		if n > 0 {
			u.heard.Add(uint64(n))
			final, fault := u.take(room[:n])
			if fault != nil || final && err == nil {
				return fault
			}
		}
		if err != nil {
			return clientError(err)
		}
	}
}

// clientError returns an error of the client's connection as what it means.
func clientError(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return fmt.Errorf("%w: %w", errClientGone, err)
}

// room returns where to read to: the end of what is kept, so that nothing is
// copied. If as much is kept as may be, it waits for a stream.
func (u *upload) room() ([]byte, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.final || len(u.kept) == keepSize {
		return make([]byte, keepAtFirst), u.awaitStream()
	}
	if len(u.kept) == cap(u.kept) {
		larger := make([]byte, len(u.kept), min(max(2*cap(u.kept), keepAtFirst), keepSize))
		copy(larger, u.kept)
		u.kept = larger
	}
	return u.kept[len(u.kept):cap(u.kept)], nil
}

// awaitStream returns when there is a stream. mu must be held.
func (u *upload) awaitStream() error {
	for u.stream == nil && !u.final && !u.closed {
		u.moved.Wait()
	}
	if u.closed {
		return net.ErrClosed
	}
	return nil
}

// take keeps what was read to where room said, as long as there is to be kept,
// and passes it on. It tells whether nothing is kept any more.
func (u *upload) take(chunk []byte) (final bool, err error) {
	u.said = true
	u.mu.Lock()
	switch {
	case u.final:
	case len(u.kept) < keepSize:
		u.kept = u.kept[:len(u.kept)+len(chunk)]
	default: // it can't be said again as a whole: this stream or none
		if err := u.awaitStream(); err != nil {
			u.mu.Unlock()
			return false, err
		}
		u.final, u.kept = true, nil
	}
	stream, final, fault := u.stream, u.final, u.fault
	u.mu.Unlock()
	switch {
	case stream == nil && final:
		return true, fault
	case stream == nil:
		return false, nil
	}
	u.before, _ = stream.Received()
	if _, err := stream.Write(chunk); err != nil {
		return final, u.lose(stream, err)
	}
	return final, nil
}

// pass copies what the client says to the final stream, and returns why it
// says no more or the stream takes no more.
func (u *upload) pass() error {
	u.mu.Lock()
	stream, err := u.stream, u.fault
	u.mu.Unlock()
	if stream == nil {
		return err
	}
	if _, err := io.Copy(stream, &listener{u, stream}); err != nil {
		return err
	}
	return io.EOF
}

// listener reads from the client and notes how much the pod had said by then.
// It hides TCPConn's WriteTo, so that a stream may read by itself
// (io.ReaderFrom).
type listener struct {
	up     *upload
	stream Stream
}

func (l *listener) Read(p []byte) (int, error) {
	n, err := l.up.client.Read(p)
	if n > 0 {
		l.up.heard.Add(uint64(n))
		l.up.said = true
		l.up.before, _ = l.stream.Received()
	}
	return n, clientError(err)
}

// attach makes stream the one that bytes go to, once it has all that was kept.
// Faults are left to the stream's Read, which says more about them.
func (u *upload) attach(stream Stream) {
	for sent := 0; ; {
		u.mu.Lock()
		rest := u.kept[sent:]
		if len(rest) == 0 {
			u.stream, u.finAt = stream, time.Now()
			fin := u.fin
			u.moved.Broadcast()
			u.mu.Unlock()
			if fin {
				_ = stream.CloseWrite()
			}
			return
		}
		u.mu.Unlock()
		if _, err := stream.Write(rest); err != nil {
			u.mu.Lock()
			u.fault = err
			u.mu.Unlock()
			return
		}
		sent += len(rest)
	}
}

// detach takes the stream away.
func (u *upload) detach(stream Stream) { _ = u.lose(stream, nil) }

// lose takes a stream away that failed. It returns the error if there will be
// no other; else that stream's Read says what to do.
func (u *upload) lose(stream Stream, err error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.final {
		return err
	}
	if u.stream == stream {
		u.stream, u.fault = nil, err
	}
	return nil
}

// settle ends the keeping: the stream was answered.
func (u *upload) settle() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.final, u.kept = true, nil
	u.moved.Broadcast()
}

// canRepeat tells whether all that the client said can be said again.
func (u *upload) canRepeat() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return !u.final
}

// close ends what waits for a stream.
func (u *upload) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	u.moved.Broadcast()
}
