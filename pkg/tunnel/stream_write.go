package tunnel

import (
	"errors"
	"io"
	"sync"
	"time"
)

// Write sends bytes to the pod.
func (s *stream) Write(p []byte) (int, error) {
	frame := frameBuffers.Get().(*[frameSize]byte)
	defer frameBuffers.Put(frame)
	for rest := p; len(rest) > 0; {
		n := copy(frame[frameHeaderSize:], rest)
		if err := s.send(frame[:frameHeaderSize+n]); err != nil {
			return len(p) - len(rest), err
		}
		rest = rest[n:]
	}
	return len(p), nil
}

// ReadFrom sends everything that it reads from r to the pod without delay.
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

// sendMany sends large frames until a read from r returns little.
func (s *stream) sendMany(r io.Reader) (sent int64, err error) {
	large := frameBuffers.Get().(*[frameSize]byte)
	defer frameBuffers.Put(large)
	for {
		n, err := s.sendNext(r, large[:])
		sent += n
		if err != nil || n < smallFrameSize {
			return sent, err
		}
	}
}

// sendNext sends the result of one read from r, using frame as the buffer.
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

// send sends a data frame. frame has room for the header before the data.
func (s *stream) send(frame []byte) error {
	if err := s.startWrite(); err != nil {
		return err
	}
	return s.up.sendData(s.id, frame, false)
}

// frameBuffers holds buffers for large frames. Most connections are idle most of
// the time; an idle one keeps only a small buffer.
var frameBuffers = sync.Pool{New: func() any { return new([frameSize]byte) }}

// CloseWrite ends the data sent to the pod.
func (s *stream) CloseWrite() error {
	if err := s.checkErr(); err != nil {
		return err
	}
	s.mu.Lock()
	s.finSent = true
	s.mu.Unlock()
	return s.up.sendData(s.id, make([]byte, frameHeaderSize), true)
}

// startWrite records that client data is about to be sent. It returns why the
// stream broke, or nil.
func (s *stream) startWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrote = s.wrote || s.err == nil
	s.lastSent.Store(time.Now().UnixNano())
	return s.err
}
