package tunnel

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubeshore/kubeshore/internal/wake"
	"github.com/kubeshore/kubeshore/pkg/fwd"
)

const (
	// closeReasonTimeout is how long the end of the bytes waits for word of what
	// ended them: the error stream's text comes after the data stream's end.
	closeReasonTimeout = 3 * time.Second
	// maxErrorText is how much is kept of what the kubelet says went wrong.
	maxErrorText = 4096
	// maxBacklog is how much of a stream's bytes waits for a client that
	// doesn't take them as fast as they come. The stream then holds its upstream
	// up, which is backpressure; if others share the upstream, only as long as
	// the client takes something at all.
	maxBacklog = 1 << 20
)

// slowWriteTimeout is when a write to a client that takes what it gets is over.
const slowWriteTimeout = 20 * time.Millisecond

// errStalled is what becomes of a stream whose client takes nothing while
// others share its upstream.
var errStalled = errors.New("the client doesn't read fast enough, and others share its connection to the API server")

// errNoCloseReason is what becomes of a stream that ends without a word whether all
// has come.
var errNoCloseReason = errors.New("the API server doesn't say how the connection ended")

// stream is one forwarded connection. It is a fwd.Stream.
//
// What comes for it is written to the client by the upstream's reader, straight
// from its buffer, as far as the client takes it. What it doesn't take at once
// holds the upstream up if the stream is alone on it, which is backpressure; if
// others share it, it waits in the backlog, which WriteTo or Read empties.
type stream struct {
	up *upstream
	id uint32 // of the data stream; the error stream's is two less

	// These are the upstream's, by its mu.
	openedAt     time.Time
	replied      bool // the server has begun with it
	errorReplied bool // and with its error stream: it connects to the pod then
	uploads      bool // bytes of the client's were sent on it

	large    atomic.Bool  // has been received
	lastSent atomic.Int64 // when the client last said something; Unix nanoseconds

	mu            sync.Mutex
	changed       wake.Broadcast
	local         *localConn // once WriteTo was called
	direct        bool       // the upstream's reader writes to the client now
	interrupted   bool       // the client has a write deadline that is over
	clientFull    bool       // the client has just not taken all of what came
	blockingSince time.Time  // since when others have to wait for the client; zero if they don't
	flushing      bool       // WriteTo writes to the client now
	backlog       []byte
	written       int64     // bytes that the client has taken
	received      int64     // bytes that the pod has sent
	lastProgress  time.Time // when the last of them came
	wrote         bool      // bytes of the client's have been sent, or tried to
	dataEnd       bool      // the server has sent its last byte
	errorEnd      bool      // the error stream has ended
	finSent       bool      // we have sent our last byte
	errorText     []byte
	err           error // why it broke off
}

func newStream(u *upstream, id uint32) *stream {
	return &stream{up: u, id: id}
}

func (s *stream) errorID() uint32 { return s.id - 2 }

// heavy tells whether much is carried: one that shares with it may have to wait,
// and costs it its right to wait for its client.
func (s *stream) heavy() bool { return s.large.Load() }

// addErrorText takes what the server says went wrong.
func (s *stream) addErrorText(text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errorText = append(s.errorText, text[:min(len(text), maxErrorText-len(s.errorText))]...)
}

// ended tells whether the data stream or the error stream has ended.
func (s *stream) ended(fault bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fault {
		return s.errorEnd
	}
	return s.dataEnd
}

// finish notes that the data stream or the error stream has ended.
func (s *stream) finish(fault bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fault {
		s.errorEnd = true
	} else {
		s.dataEnd = true
	}
	s.changed.Fire()
}

// fail breaks the stream off: nothing more is read or written.
func (s *stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failLocked(err)
}

func (s *stream) failLocked(err error) {
	inOrder := s.dataEnd && s.errorEnd // what has ended so can't fail any more
	if s.err == nil && !inOrder {
		s.err = err
		if s.flushing { // the client takes nothing: WriteTo has to return all the same
			_ = s.local.SetWriteDeadline(time.Unix(1, 0))
		}
	}
	s.changed.Fire()
}

// waitLocked waits for a change of the stream, and reports whether one came
// before timeout fired. A nil timeout never fires. mu must be held; waitLocked
// releases it while it waits.
func (s *stream) waitLocked(timeout <-chan time.Time) bool {
	changed := s.changed.C()
	s.mu.Unlock()
	defer s.mu.Lock()
	select {
	case <-changed:
		return true
	case <-timeout:
		return false
	}
}

// closeReasonLocked says how the stream has ended, once the bytes have: in good order
// (io.EOF), or by what the error stream says. mu must be held.
func (s *stream) closeReasonLocked() error {
	timeout := time.NewTimer(closeReasonTimeout)
	defer timeout.Stop()
	for s.err == nil && !s.errorEnd {
		if !s.waitLocked(timeout.C) {
			break
		}
	}
	switch {
	case len(s.errorText) > 0:
		text := strings.TrimSpace(string(s.errorText))
		err := classify(text)
		if err == nil || s.received > 0 {
			return errors.New(summarize(text))
		}
		if err.Reason == fwd.PodGone {
			// Soon the kubelet doesn't even answer on it.
			s.up.drain()
		}
		return err
	case s.err != nil:
		return s.failureLocked()
	case !s.errorEnd:
		return errNoCloseReason
	}
	return io.EOF
}

// failureLocked is why the stream broke off, and says so if no byte went either way.
// Newer runtimes reset a stream of which the error stream has said what is wrong.
// mu must be held.
func (s *stream) failureLocked() error {
	switch {
	case errors.Is(s.err, errReset) && len(s.errorText) > 0:
		return s.closeReasonLocked()
	case s.wrote || s.received > 0 || errors.Is(s.err, net.ErrClosed):
		return s.err
	case errors.Is(s.err, errReset):
		return &fwd.UnreachedError{Reason: fwd.PodGone, Err: s.err}
	}
	return &fwd.UnreachedError{Reason: fwd.ClusterUnreachable, Err: s.err}
}

// Received returns how many bytes have come from the pod so far, and when the
// last of them did, or were taken by a client that was slow to.
func (s *stream) Received() (n int64, last time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.direct || s.flushing || len(s.backlog) > 0 {
		return s.received, time.Now()
	}
	return s.received, s.lastProgress
}

func (s *stream) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close ends the stream at once. Unless both sides had said all, the pod's
// process sees its connection end.
func (s *stream) Close() error {
	s.mu.Lock()
	first := !errors.Is(s.err, net.ErrClosed)
	done := s.dataEnd && s.errorEnd && s.finSent
	s.err = net.ErrClosed
	s.changed.Fire()
	s.mu.Unlock()
	if first {
		s.up.remove(s)
		if !done {
			s.up.reset(s)
		}
	}
	return nil
}
