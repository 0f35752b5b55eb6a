package tunnel

import (
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// deliver takes bytes that the server sent, which are good only until it
// returns. The upstream's reader alone calls it.
func (s *stream) deliver(chunks *net.Buffers) {
	if !s.accept(chunks) {
		s.up.stalled.Add(1)
		s.fail(errStalled)
		s.up.remove(s)
		s.up.reset(s)
	}
}

// accept is false if there is no room for the bytes and waiting for some would
// cost others.
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

// writeDirectLocked writes to the client, and returns how much. If the stream is shared,
// or comes to be in the meantime, it doesn't wait for the client. mu must be
// held, and is not during the write.
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
		s.failLocked(err)
	}
	return int(n)
}

// unblock keeps the upstream's reader from waiting for the client.
func (s *stream) unblock() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.direct {
		s.interrupted = true
		_ = s.local.SetWriteDeadline(time.Unix(1, 0)) // if it can't be set, it is closed, which ends the write too
	}
	s.changed.Fire()
}

// clientSlow tells whether the client is slow to take what came.
func (s *stream) clientSlow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.direct && time.Since(s.lastProgress) > slowWriteTimeout || s.flushing || len(s.backlog) > 0 && s.local != nil
}

// Read returns io.EOF only if the pod ended the stream in good order.
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

// WriteTo writes all that comes to a net.Conn and returns nil when the pod has
// ended the stream in good order.
func (s *stream) WriteTo(w io.Writer) (int64, error) {
	conn, ok := w.(net.Conn)
	if !ok {
		return io.Copy(w, struct{ io.Reader }{s})
	}
	c := newLocalConn(conn)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.local = c
	s.changed.Fire()
	for {
		switch {
		case s.err != nil:
			return s.written, s.failureLocked()
		case len(s.backlog) > 0:
			s.flushLocked()
		case s.dataEnd: // after the last write of the upstream's reader
			if err := s.closeReasonLocked(); !errors.Is(err, io.EOF) {
				return s.written, err
			}
			return s.written, nil
		default:
			s.waitLocked(nil)
		}
	}
}

// flushLocked writes from the backlog to the client. mu must be held, and is not
// during the write.
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
		s.failLocked(err)
	}
	s.changed.Fire()
}
