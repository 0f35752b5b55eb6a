package tunnel

import (
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"k8s.io/streaming/pkg/httpstream"
)

const (
	// verdictTime is how long the end of the bytes waits for word of what
	// ended them: the error stream's text comes after the data stream's end.
	verdictTime = 3 * time.Second
	// faultSize is how much of what the kubelet says went wrong is read.
	faultSize = 4096
)

// stream is one forwarded connection. It is a fwd.Stream.
type stream struct {
	conn    httpstream.Connection
	data    httpstream.Stream
	verdict chan struct{} // closed when the error stream has ended
	fault   error         // what it said; to be read after verdict
	end     sync.Once
}

// newStream takes over the connection and its streams.
func newStream(conn httpstream.Connection, data, faults httpstream.Stream) *stream {
	s := &stream{conn: conn, data: data, verdict: make(chan struct{})}
	// It ends with the connection, which Close closes and waits for it.
	go s.awaitVerdict(faults)
	return s
}

func (s *stream) awaitVerdict(faults io.Reader) {
	defer close(s.verdict)
	text, err := io.ReadAll(io.LimitReader(faults, faultSize))
	switch {
	case len(text) > 0:
		s.fault = errors.New(strings.TrimSpace(string(text)))
	case err != nil:
		s.fault = err
	}
}

// Read returns io.EOF only if the pod ended the stream in good order.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.data.Read(p)
	if errors.Is(err, io.EOF) {
		err = s.ending()
	}
	return n, err
}

// ending says how the stream has ended: a lost connection looks like an end of
// the bytes too.
func (s *stream) ending() error {
	timer := time.NewTimer(verdictTime)
	defer timer.Stop()
	select {
	case <-s.verdict:
		if s.fault != nil {
			return s.fault
		}
	case <-timer.C:
	}
	select {
	case <-s.conn.CloseChan():
		return io.ErrUnexpectedEOF
	default:
		return io.EOF
	}
}

func (s *stream) Write(p []byte) (int, error) { return s.data.Write(p) }

// CloseWrite says that no more will be written. The kubelet's runtime may end
// the whole stream a second later.
func (s *stream) CloseWrite() error { return s.data.Close() }

// Close ends the stream and its connection at once.
func (s *stream) Close() error {
	var err error
	s.end.Do(func() { err = s.conn.Close() })
	<-s.verdict
	return err
}
