package tunnel

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/kubeshore/kubeshore/pkg/fwd"
)

// deliver delivers bytes from the server, which are valid only until it returns.
// Only the upstream's reader may call it.
func (s *stream) deliver(chunks *net.Buffers) {
	if !s.accept(chunks) {
		s.up.stalled.Add(1)
		s.fail(errStalled)
		s.up.remove(s)
		s.up.reset(s)
	}
}

// accept writes the bytes to the client or to the backlog. It returns false if
// the backlog is full and other streams starve.
func (s *stream) accept(chunks *net.Buffers) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := 0
	for _, chunk := range *chunks {
		size += len(chunk)
	}
	s.received, s.lastProgress = s.received+int64(size), time.Now()
	if s.received > maxBacklog/2 {
		s.large.Store(true)
	}
	if len(s.backlog) == 0 {
		s.blockingSince = time.Time{}
	}
	for s.err == nil && size > 0 {
		shared := s.up.isShared()
		switch {
		case s.local != nil && len(s.backlog) == 0 && !s.flushing && (!shared || !s.clientFull):
			size -= s.writeDirectLocked(chunks, shared)
		case len(s.backlog) == 0 || len(s.backlog)+size <= maxBacklog:
			for _, chunk := range *chunks {
				s.backlog = append(s.backlog, chunk...)
			}
			s.clientFull = false
			s.changed.Fire()
			return true
		case shared:
			if !s.awaitClientLocked() {
				return false
			}
		default:
			s.waitLocked(nil)
		}
	}
	return true
}

// writeDirectLocked writes to the client, and returns the number of bytes
// written. It doesn't block if the upstream is shared or becomes shared
// meanwhile. mu must be held; writeDirectLocked releases it during the write. It
// doesn't fire changed, because that would wake WriteTo for each frame.
func (s *stream) writeDirectLocked(chunks *net.Buffers, shared bool) int {
	s.direct = true
	s.mu.Unlock()
	n, err := s.local.writeNow(chunks)
	if len(*chunks) > 0 && err == nil && !shared {
		var more int64
		more, err = s.local.write(chunks)
		n += more
	}
	s.mu.Lock()
	s.direct, s.clientFull = false, len(*chunks) > 0
	s.written += n
	s.lastProgress = time.Now()
	if s.interrupted {
		s.interrupted = false
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = nil
		}
		err = errors.Join(err, s.local.SetWriteDeadline(time.Time{}))
	}
	if err != nil {
		s.failLocked(fmt.Errorf("%w: %w", fwd.ErrClientGone, err))
	}
	return int(n)
}

// unblock interrupts a write of the upstream's reader to the client.
func (s *stream) unblock() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.direct {
		s.interrupted = true
		_ = s.local.SetWriteDeadline(time.Unix(1, 0)) // fails only on a closed connection, whose write ends anyway
	}
	s.changed.Fire()
}

// clientSlow reports whether the client is slow to read.
func (s *stream) clientSlow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.direct && time.Since(s.lastProgress) > slowWriteTimeout || s.flushing || len(s.backlog) > 0 && s.local != nil
}

// Read reads from the backlog. It returns io.EOF only after an orderly end.
func (s *stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.err != nil:
			return 0, s.failureLocked()
		case len(s.backlog) > 0:
			n := copy(p, s.backlog)
			s.backlog, s.written = s.backlog[n:], s.written+int64(n)
			s.changed.Fire()
			return n, nil
		case s.dataEnd:
			return 0, s.closeReasonLocked()
		}
		s.waitLocked(nil)
	}
}

// WriteTo writes everything that comes from the pod to w. It returns nil after
// an orderly end. If w is a net.Conn, the upstream's reader writes to it directly.
func (s *stream) WriteTo(w io.Writer) (int64, error) {
	conn, ok := w.(net.Conn)
	if !ok {
		return io.Copy(w, struct{ io.Reader }{s})
	}
	local := newLocalConn(conn)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.local = local
	s.changed.Fire()
	for {
		switch {
		case s.err != nil:
			return s.written, s.failureLocked()
		case len(s.backlog) > 0:
			s.flushLocked()
		case s.dataEnd: // set after the last direct write
			if err := s.closeReasonLocked(); !errors.Is(err, io.EOF) {
				return s.written, err
			}
			return s.written, nil
		default:
			s.waitLocked(nil)
		}
	}
}

// flushLocked writes part of the backlog to the client. mu must be held;
// flushLocked releases it during the write.
func (s *stream) flushLocked() {
	chunk := s.backlog[:min(len(s.backlog), readSize)]
	s.backlog, s.flushing = s.backlog[len(chunk):], true
	if len(s.backlog) == 0 {
		s.backlog = nil
	}
	s.changed.Fire()
	s.mu.Unlock()
	n, err := s.local.Write(chunk)
	s.mu.Lock()
	s.flushing = false
	s.written += int64(n)
	s.lastProgress = time.Now()
	if err != nil {
		s.failLocked(fmt.Errorf("%w: %w", fwd.ErrClientGone, err))
	}
	s.changed.Fire()
}
