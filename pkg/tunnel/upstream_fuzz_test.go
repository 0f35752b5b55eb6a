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

// readerConn is a connection whose other side sends the bytes of from and then
// closes it. It accepts all writes.
type readerConn struct {
	net.Conn
	from io.Reader
}

func (s readerConn) Read(p []byte) (int, error)     { return s.from.Read(p) }
func (readerConn) Write(p []byte) (int, error)      { return len(p), nil }
func (readerConn) Close() error                     { return nil }
func (readerConn) SetWriteDeadline(time.Time) error { return nil }

// bufferConn is a client connection that collects all writes.
type bufferConn struct {
	readerConn
	got []byte
}

func (c *bufferConn) Write(p []byte) (int, error) {
	c.got = append(c.got, p...)
	return len(p), nil
}

// decode returns the bytes that moby/spdystream decodes for a stream, until the
// first error.
func decode(sent []byte, id spdystream.StreamId) (got []byte) {
	framer, err := spdystream.NewFramer(io.Discard, bytes.NewReader(sent))
	for err == nil {
		var frame spdystream.Frame
		if frame, err = framer.ReadFrame(); err != nil {
			break
		}
		if data, ok := frame.(*spdystream.DataFrame); ok && data.StreamId == id {
			got = append(got, data.Data...)
		}
	}
	return got
}

// For any input from the server, read returns an error without panicking or
// hanging, the bytes kept stay within bounds, and the client gets the same bytes
// as with moby/spdystream, until one of the two stops.
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
		u := newUpstream(readerConn{from: bytes.NewReader(sent)}, nil)
		s, err := u.open(80)
		if err != nil {
			t.Fatal(err)
		}
		second, err := u.open(80)
		if err != nil {
			t.Fatal(err)
		}
		client, ended := &bufferConn{}, make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = second.WriteTo(client)
		}()
		if err := u.read(); err == nil {
			t.Fatal("read returned no error")
		}
		<-ended
		want := decode(sent, spdystream.StreamId(second.id))
		if n := min(len(want), len(client.got)); !bytes.Equal(want[:n], client.got[:n]) {
			t.Fatalf("got %q at the client, want %q", client.got, want)
		}
		if len(s.backlog) > len(sent) || len(s.errorText) > maxErrorText {
			t.Fatalf("got %d bytes of backlog and %d of error text, want at most %d and %d", len(s.backlog), len(s.errorText), len(sent), maxErrorText)
		}
		for {
			if _, err := s.Read(make([]byte, 1<<16)); err != nil {
				if errors.Is(err, io.EOF) && !s.dataEnd {
					t.Fatal("got io.EOF, although the server didn't end the stream")
				}
				return
			}
		}
	})
}
