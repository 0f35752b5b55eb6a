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

	"github.com/kubeshore/kubeshore/internal/wake"
)

const (
	// replaySize is how many of the client's bytes are kept for a retry.
	replaySize = 64 << 10
	// initialReadSize is the size of the first read into the replay buffer.
	initialReadSize = 4 << 10
	// streamErrorTimeout is how long Read of a stream whose Write failed may take
	// to return how the stream ended.
	streamErrorTimeout = 5 * time.Second
)

// upload is the client's half of a connection. It copies from the client to the
// current stream.
//
// Until a pod has answered, the bytes are kept and sent again to each stream
// that is attached. After that nothing is kept, and they are copied directly.
type upload struct {
	client       net.Conn
	isClientGone func(net.Conn) bool // see Engine.ClientGone
	abort        context.CancelCauseFunc
	clientGone   chan struct{} // closed when the client has disconnected with bytes still on their way
	podDone      chan struct{} // closed when the pod has ended the connection in an orderly way

	bytesIn atomic.Uint64 // bytes read from the client

	changed      wake.Broadcast // fires when stream, committed or closed change
	mu           sync.Mutex
	stream       Stream    // current stream; nil while there is none
	replayBuffer []byte    // the client's bytes until committed
	committed    bool      // there will be no other stream
	writeErr     error     // of the last stream, if that was dropped
	ended        bool      // the client's end is to be passed on
	endSentAt    time.Time // when it was passed on to the current stream
	closed       bool

	// Only used by the goroutine of run:
	sentAny        bool  // the client has sent something
	receivedBefore int64 // bytes received from the pod before the client's last bytes were sent
}

func newUpload(client net.Conn, isClientGone func(net.Conn) bool, abort context.CancelCauseFunc) *upload {
	return &upload{
		client: client, isClientGone: isClientGone, abort: abort,
		clientGone: make(chan struct{}), podDone: make(chan struct{}),
	}
}

// run copies the client's bytes and passes on its end, until ctx ends or the pod
// has ended the connection.
func (u *upload) run(ctx context.Context) {
	err := u.copyReplayable()
	if err == nil {
		err = u.copyCommitted()
	}
	if writeErr := err; !errors.Is(err, io.EOF) && !errors.Is(err, ErrClientGone) {
		// The pod no longer reads. The stream's Read returns how it ended, which
		// may be in an orderly way, with a response.
		timer := time.AfterFunc(streamErrorTimeout, func() {
			if !u.isPodDone() {
				u.abort(writeErr)
			}
		})
		defer timer.Stop()
		err = u.discard()
	}
	switch {
	case u.isPodDone():
	case errors.Is(err, io.EOF):
		u.end(ctx)
	default:
		u.abort(err)
	}
}

// discard reads from the client to its end, and returns the error that ended it.
func (u *upload) discard() error {
	if _, err := io.Copy(io.Discard, u.client); err != nil {
		return clientError(err)
	}
	return io.EOF
}

// isPodDone reports whether the pod has ended the connection in an orderly way.
func (u *upload) isPodDone() bool {
	select {
	case <-u.podDone:
		return true
	default:
		return false
	}
}

// copyReplayable copies from the client and keeps the bytes for a retry. It
// returns nil once the stream is committed, or the error that ended the copy.
func (u *upload) copyReplayable() error {
	for {
		buffer, err := u.readBuffer()
		if err != nil {
			return err
		}
		n, err := u.client.Read(buffer)
		if n > 0 {
			u.bytesIn.Add(uint64(n))
			committed, writeErr := u.send(buffer[:n])
			if writeErr != nil || committed && err == nil {
				return writeErr
			}
		}
		if err != nil {
			return clientError(err)
		}
	}
}

// clientError marks errors of the client's connection, except for its orderly
// end, as ErrClientGone.
func clientError(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrClientGone, err)
}

// readBuffer returns the buffer for the next read: the free part of the replay
// buffer, so that nothing is copied. If the replay buffer is full, it waits for
// a stream and returns another buffer.
func (u *upload) readBuffer() ([]byte, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.committed || len(u.replayBuffer) == replaySize {
		return make([]byte, initialReadSize), u.awaitStreamLocked()
	}
	if len(u.replayBuffer) == cap(u.replayBuffer) {
		larger := make([]byte, len(u.replayBuffer), min(max(2*cap(u.replayBuffer), initialReadSize), replaySize))
		copy(larger, u.replayBuffer)
		u.replayBuffer = larger
	}
	return u.replayBuffer[len(u.replayBuffer):cap(u.replayBuffer)], nil
}

// awaitStreamLocked waits until there is a stream, or none will come. mu must be
// held; it is released while waiting.
func (u *upload) awaitStreamLocked() error {
	for u.stream == nil && !u.committed && !u.closed {
		changed := u.changed.C()
		u.mu.Unlock()
		<-changed
		u.mu.Lock()
	}
	if u.closed {
		return net.ErrClosed
	}
	return nil
}

// send sends a chunk that was read into readBuffer, and keeps it unless the
// stream is committed. It returns whether the stream is committed now.
func (u *upload) send(chunk []byte) (committed bool, err error) {
	u.sentAny = true
	u.mu.Lock()
	switch {
	case u.committed:
	case len(u.replayBuffer) < replaySize:
		u.replayBuffer = u.replayBuffer[:len(u.replayBuffer)+len(chunk)]
	default: // too much to send again: commit to this stream
		if err := u.awaitStreamLocked(); err != nil {
			u.mu.Unlock()
			return false, err
		}
		u.committed, u.replayBuffer = true, nil
	}
	stream, committed, writeErr := u.stream, u.committed, u.writeErr
	u.mu.Unlock()
	switch {
	case stream == nil && committed:
		return true, writeErr
	case stream == nil:
		return false, nil
	}
	u.receivedBefore, _ = stream.Received()
	if _, err := stream.Write(chunk); err != nil {
		return committed, u.drop(stream, err)
	}
	return committed, nil
}

// copyCommitted copies from the client to the committed stream. It returns the
// error that ended the copy, io.EOF at the client's end.
func (u *upload) copyCommitted() error {
	u.mu.Lock()
	stream, err := u.stream, u.writeErr
	u.mu.Unlock()
	if stream == nil {
		return err
	}
	if _, err := io.Copy(stream, &countingReader{u, stream}); err != nil {
		return err
	}
	return io.EOF
}

// countingReader reads from the client and updates the upload's counters. It
// hides the WriteTo of a TCPConn, so that io.Copy uses the ReadFrom of a stream.
type countingReader struct {
	upload *upload
	stream Stream
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.upload.client.Read(p)
	if n > 0 {
		r.upload.bytesIn.Add(uint64(n))
		r.upload.sentAny = true
		r.upload.receivedBefore, _ = r.stream.Received()
	}
	return n, clientError(err)
}

// attach sends the kept bytes to stream and then makes it the current one. Its
// write errors are ignored: the stream's Read returns better ones.
func (u *upload) attach(stream Stream) {
	for sent := 0; ; {
		u.mu.Lock()
		rest := u.replayBuffer[sent:]
		if len(rest) == 0 {
			u.stream, u.endSentAt = stream, time.Now()
			ended := u.ended
			u.changed.Fire()
			u.mu.Unlock()
			if ended {
				_ = stream.CloseWrite()
			}
			return
		}
		u.mu.Unlock()
		if _, err := stream.Write(rest); err != nil {
			u.mu.Lock()
			u.writeErr = err
			u.mu.Unlock()
			return
		}
		sent += len(rest)
	}
}

// detach removes the current stream, if it is the given one.
func (u *upload) detach(stream Stream) { _ = u.drop(stream, nil) }

// drop removes a stream whose Write failed with err. It returns err if there
// will be no other stream; otherwise the stream's Read decides what happens.
func (u *upload) drop(stream Stream, err error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.committed {
		return err
	}
	if u.stream == stream {
		u.stream, u.writeErr = nil, err
	}
	return nil
}

// commit makes the current stream the last one and discards the replay buffer.
func (u *upload) commit() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.committed, u.replayBuffer = true, nil
	u.changed.Fire()
}

// canReplay reports whether all of the client's bytes can be sent again.
func (u *upload) canReplay() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return !u.committed
}

// close stops waiting for a stream.
func (u *upload) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	u.changed.Fire()
}
