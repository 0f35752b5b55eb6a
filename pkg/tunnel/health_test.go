package tunnel

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubeshore/kubeshore/pkg/fwd"
)

// A stream is reset if the server answers later PINGs but doesn't reply to it. It
// isn't reset while its reply may be queued behind another stream's data: its pod
// may already have the client's bytes. Because that is possible in the first case,
// too, the error isn't an UnreachedError.
func TestUnansweredStreamIsReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		u := newUpstream(ours, nil)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = u.read()
		}()
		pings := make(chan uint32, 1000) // not answered yet
		go func() {
			for {
				var header [frameHeaderSize]byte
				if _, err := io.ReadFull(theirs, header[:]); err != nil {
					return
				}
				h, _ := parseFrameHeader(&header)
				body := make([]byte, h.length)
				_, _ = io.ReadFull(theirs, body)
				if h.control && h.kind == typePing {
					pings <- binary.BigEndian.Uint32(body)
				}
			}
		}()
		first, err := u.open(1)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, first) }()
		<-time.After(time.Second)
		second, err := u.open(2)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := second.Write([]byte("POST")); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			<-time.After(time.Second)
			_, _ = theirs.Write(append(appendDataHeader(nil, first.id, 0, 5), "bytes"...))
			u.check(time.Time{})
			if err := second.checkErr(); err != nil {
				t.Fatalf("got error %v before the server answered a PING, want none", err)
			}
		}
		for len(pings) > 0 {
			_, _ = theirs.Write(appendPing(nil, <-pings))
		}
		synctest.Wait()
		u.check(time.Time{})
		_, err = second.Read(make([]byte, 1))
		if !errors.Is(err, errNotStarted) || errors.As(err, new(*fwd.UnreachedError)) {
			t.Errorf("got error %v, want %v", err, errNotStarted)
		}
		_ = theirs.Close()
		<-ended
	})
}
