package tunnel

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"
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

// Whatever the server sends: reading ends with an error, nothing panics or
// hangs, and no more is kept than was sent, nor more than the bounds.
func FuzzRead(f *testing.F) {
	f.Add(append(appendDataHeader(nil, 3, 0, 5), "hello"...))
	f.Add(append(appendDataHeader(appendPing(nil, 2), 1, flagFin, 4), "oops"...))
	f.Add(appendCancel(nil, 3))
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
		if err := u.read(); err == nil {
			t.Fatal("reading ended without an error")
		}
		if len(s.backlog) > len(sent) || len(s.fault) > faultSize {
			t.Fatalf("%d bytes are kept of %d, and %d of the fault", len(s.backlog), len(sent), len(s.fault))
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
