package tunnel

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	spdystream "github.com/moby/spdystream/spdy"
)

// said is a connection whose other side says what from holds and then ends,
// and takes all that is written.
type said struct {
	net.Conn
	from io.Reader
}

func (s said) Read(p []byte) (int, error)     { return s.from.Read(p) }
func (said) Write(p []byte) (int, error)      { return len(p), nil }
func (said) Close() error                     { return nil }
func (said) SetWriteDeadline(time.Time) error { return nil }

// taker is a client that takes all that is written.
type taker struct {
	said
	got []byte
}

func (c *taker) Write(p []byte) (int, error) {
	c.got = append(c.got, p...)
	return len(p), nil
}

// understood returns the bytes for a stream that the upstream library finds, up
// to what it takes for a fault.
func understood(sent []byte, stream spdystream.StreamId) (got []byte) {
	framer, err := spdystream.NewFramer(io.Discard, bytes.NewReader(sent))
	for err == nil {
		var frame spdystream.Frame
		if frame, err = framer.ReadFrame(); err != nil {
			break
		}
		if data, ok := frame.(*spdystream.DataFrame); ok && data.StreamId == stream {
			got = append(got, data.Data...)
		}
	}
	return got
}

// Whatever the server sends: reading ends with an error, nothing panics or
// hangs, no more is kept than was sent, nor more than the bounds, and a client
// gets what the upstream library would have given it, as far as either of the
// two goes on.
func FuzzRead(f *testing.F) {
	f.Add(append(appendDataHeader(nil, 3, 0, 5), "hello"...))
	f.Add(append(appendDataHeader(appendPing(nil, 2), 1, flagFin, 4), "oops"...))
	f.Add(appendCancel(nil, 3))
	f.Add(append(appendDataHeader(append(appendDataHeader(nil, 7, 0, 5), "hello"...), 7, flagFin, 5), "again"...))
	f.Add(appendDataHeader(nil, 3, flagFin, 1<<24-1))
	f.Add(appendControl(nil, typeGoAway, 0, 0, 0, 0, 0, 0, 0, 0, 0))
	f.Add(appendControl(nil, typeSynReply, 0, 0, 0, 0, 3))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		u := newUpstream(said{from: bytes.NewReader(sent)}, nil)
		s, err := u.open(80)
		if err != nil {
			t.Fatal(err)
		}
		second, err := u.open(80)
		if err != nil {
			t.Fatal(err)
		}
		client, ended := &taker{}, make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = second.WriteTo(client)
		}()
		if err := u.read(); err == nil {
			t.Fatal("reading ended without an error")
		}
		<-ended
		want := understood(sent, spdystream.StreamId(second.id))
		if n := min(len(want), len(client.got)); !bytes.Equal(want[:n], client.got[:n]) {
			t.Fatalf("the client gets %q, the library's would %q", client.got, want)
		}
		if len(s.backlog) > len(sent) || len(s.errorText) > maxErrorText {
			t.Fatalf("%d bytes are kept of %d, and %d of the fault", len(s.backlog), len(sent), len(s.errorText))
		}
		for {
			if _, err := s.Read(make([]byte, 1<<16)); err != nil {
				if errors.Is(err, io.EOF) && !s.dataEnd {
					t.Fatal("an end in good order that the server didn't send")
				}
				return
			}
		}
	})
}
