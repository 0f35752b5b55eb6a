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
	// closeReasonTimeout is how long the end of a data stream waits for that of
	// the error stream, which carries the reason.
	closeReasonTimeout = 3 * time.Second
	// maxErrorText bounds the text kept from an error stream, in bytes.
	maxErrorText = 4096
	// maxBacklog bounds the bytes kept for a slow client. When the backlog is
	// full, the stream blocks the upstream's reader, which is backpressure. If
	// other streams share the upstream, it may do so only while the client reads
	// fast enough for them.
	maxBacklog = 1 << 20
	// slowWriteTimeout is the duration after which a write counts as slow.
	slowWriteTimeout = 20 * time.Millisecond
)

var (
	// errStalled ends a stream whose client blocks other streams of the upstream.
	errStalled = errors.New("the client reads too slowly for a shared connection to the API server")
	// errNoCloseReason ends a stream that may be incomplete.
	errNoCloseReason = errors.New("the API server didn't report how the connection ended")
)

// stream is one forwarded connection. It is a fwd.Stream.
//
// The upstream's reader writes incoming bytes directly from its buffer to the
// client. If the client doesn't accept them at once and the stream is alone on
// the upstream, the reader blocks, which is backpressure. If other streams share
// the upstream, the rest goes to the backlog, which WriteTo or Read empties.
type stream struct {
	up *upstream
	id uint32 // of the data stream; see errorID

	// The following fields are guarded by the upstream's mu.
	openedAt     time.Time
	replied      bool // the server replied on the data stream
	errorReplied bool // the server replied on the error stream, and connects to the pod
	uploaded     bool // client data was sent

	large    atomic.Bool  // see heavy
	lastSent atomic.Int64 // when the client last sent bytes, in Unix nanoseconds

	mu            sync.Mutex
	changed       wake.Broadcast // fires for Read, WriteTo and a blocked reader
	local         *localConn     // nil until WriteTo is called
	direct        bool           // the upstream's reader is writing to the client
	interrupted   bool           // unblock has set a write deadline
	clientFull    bool           // the client didn't accept all of the last write
	blockingSince time.Time      // when the client began to block other streams; zero if it doesn't
	flushing      bool           // WriteTo is writing to the client
	backlog       []byte
	written       int64     // bytes that the client accepted
	received      int64     // bytes that came from the pod
	lastProgress  time.Time // when written or received last changed
	wrote         bool      // client data was sent, perhaps in part
	dataEnd       bool      // the server has ended the data stream
	errorEnd      bool      // the server has ended the error stream
	finSent       bool      // we have ended the data stream
	errorText     []byte    // from the error stream
	err           error     // why the stream broke; nil while it works
}

func newStream(u *upstream, id uint32) *stream {
	return &stream{up: u, id: id}
}

// errorID returns the ID of the error stream.
func (s *stream) errorID() uint32 { return s.id - 2 }

// heavy reports whether the stream has received much. Another stream on the same
// upstream might have to wait for it, and would end its backpressure.
func (s *stream) heavy() bool { return s.large.Load() }

// addErrorText adds text from the error stream.
func (s *stream) addErrorText(text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errorText = append(s.errorText, text[:min(len(text), maxErrorText-len(s.errorText))]...)
}

// ended reports whether the server has ended the data stream, or, with isError,
// the error stream.
func (s *stream) ended(isError bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if isError {
		return s.errorEnd
	}
	return s.dataEnd
}

// finish records the end of the data stream, or, with isError, of the error
// stream.
func (s *stream) finish(isError bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if isError {
		s.errorEnd = true
	} else {
		s.dataEnd = true
	}
	s.changed.Fire()
}

// fail breaks the stream, unless it has ended in order. Reads and writes return
// err.
func (s *stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failLocked(err)
}

// failLocked is fail with mu held.
func (s *stream) failLocked(err error) {
	inOrder := s.dataEnd && s.errorEnd
	if s.err == nil && !inOrder {
		s.err = err
		if s.flushing { // the client may block WriteTo
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

// closeReasonLocked returns how the stream ended, after the end of its data:
// io.EOF if in order, otherwise an error with the error stream's text. mu must be
// held.
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
			s.up.drain() // the kubelet may soon stop responding on it
		}
		return err
	case s.err != nil:
		return s.failureLocked()
	case !s.errorEnd:
		return errNoCloseReason
	}
	return io.EOF
}

// failureLocked returns why the stream broke, as a fwd.UnreachedError if no bytes
// were exchanged. Newer runtimes reset a stream after they have sent the reason
// on the error stream. mu must be held.
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

// Received returns how many bytes have come from the pod, and when the last of
// them came or were accepted by the client.
func (s *stream) Received() (n int64, last time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.direct || s.flushing || len(s.backlog) > 0 {
		return s.received, time.Now()
	}
	return s.received, s.lastProgress
}

// checkErr returns why the stream broke, or nil.
func (s *stream) checkErr() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close ends the stream at once. Unless both sides have ended it, the connection
// in the pod is closed.
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
