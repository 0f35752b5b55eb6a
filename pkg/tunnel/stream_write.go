package tunnel

import (
	"errors"
	"io"
	"sync"
	"time"
)

// Write sends bytes to the pod.
func (s *stream) Write(p []byte) (int, error) {
	frame := frames.Get().(*[frameSize]byte)
	defer frames.Put(frame)
	for rest := p; len(rest) > 0; {
		n := copy(frame[frameHeaderSize:], rest)
		if err := s.send(frame[:frameHeaderSize+n]); err != nil {
			return len(p) - len(rest), err
		}
		rest = rest[n:]
	}
	return len(p), nil
}

// ReadFrom sends all that comes from r to the pod, as soon as it comes.
func (s *stream) ReadFrom(r io.Reader) (sent int64, err error) {
	small := make([]byte, smallFrameSize)
	for {
		n, err := s.sendNext(r, small)
		sent += n
		if err == nil && n == smallFrameSize-frameHeaderSize {
			n, err = s.sendMany(r)
			sent += n
		}
		switch {
		case errors.Is(err, io.EOF):
			return sent, nil
		case err != nil:
			return sent, err
		}
	}
}

// sendMany sends what comes from r in large frames, until little comes at once.
func (s *stream) sendMany(r io.Reader) (sent int64, err error) {
	large := frames.Get().(*[frameSize]byte)
	defer frames.Put(large)
	for {
		n, err := s.sendNext(r, large[:])
		sent += n
		if err != nil || n < smallFrameSize {
			return sent, err
		}
	}
}

// sendNext sends one frame with what r has, by a buffer for it.
func (s *stream) sendNext(r io.Reader, frame []byte) (int64, error) {
	n, err := r.Read(frame[frameHeaderSize:])
	if n == 0 {
		return 0, err
	}
	if err := s.send(frame[:frameHeaderSize+n]); err != nil {
		return 0, err
	}
	return int64(n), err
}

// send sends a frame with bytes behind the room for its header.
func (s *stream) send(frame []byte) error {
	if err := s.startWrite(); err != nil {
		return err
	}
	return s.up.sendData(s.id, frame, false)
}

// frames has buffers for large frames. Most connections are idle most of the
// time: one that waits for its client has a small one.
var frames = sync.Pool{New: func() any { return new([frameSize]byte) }}

// CloseWrite says that no more will be written.
func (s *stream) CloseWrite() error {
	if err := s.failed(); err != nil {
		return err
	}
	s.mu.Lock()
	s.finSent = true
	s.mu.Unlock()
	return s.up.sendData(s.id, make([]byte, frameHeaderSize), true)
}

// startWrite notes that bytes are sent from now on, if they still can be.
func (s *stream) startWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrote = s.wrote || s.err == nil
	s.lastSent.Store(time.Now().UnixNano())
	return s.err
}
