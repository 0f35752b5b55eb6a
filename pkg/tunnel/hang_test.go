package tunnel_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/streaming/pkg/httpstream"
)

// within fails the test if what it runs takes longer than any of it should.
func within(t *testing.T, what string, run func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		run()
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s hangs", what)
	}
}

// An API server that takes the connection and never answers doesn't hold up a
// dial that isn't wanted any more.
func TestDialOfASilentServerEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := make(chan net.Conn, 1)
	go func() {
		if conn, err := l.Accept(); err == nil {
			taken <- conn
		}
	}()
	for _, scheme := range []string{"http://", "https://"} {
		d := run(t, &rest.Config{Host: scheme + l.Addr().String()})
		ctx, cancel := context.WithCancel(t.Context())
		if scheme == "http://" {
			go func() {
				conn := <-taken // it has the request now, or will
				cancel()
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			}()
		} else {
			time.AfterFunc(50*time.Millisecond, cancel)
		}
		within(t, "Dial", func() {
			if _, err := d.Dial(ctx, pod, 8080); !errors.Is(err, context.Canceled) {
				t.Errorf("Dial says %v", err)
			}
		})
	}
}

// A stream whose bytes the pod doesn't take can be closed.
func TestCloseOfAStalledUpload(t *testing.T) {
	stalled := make(chan struct{})
	s := dial(t, cluster(t, func(data, _ httpstream.Stream, _ httpstream.Connection) {
		<-stalled // reads nothing until the test is over
		_, _ = io.Copy(io.Discard, data)
	}))
	defer close(stalled)
	written := make(chan error, 1)
	progress := make(chan struct{}, 1)
	go func() {
		chunk := make([]byte, 1<<20)
		for {
			if _, err := s.Write(chunk); err != nil {
				written <- err
				return
			}
			select {
			case progress <- struct{}{}:
			default:
			}
		}
	}()
	for blocked := false; !blocked; { // no progress for a moment: it is
		select {
		case <-progress:
		case <-time.After(300 * time.Millisecond):
			blocked = true
		}
	}
	within(t, "Close", func() { _ = s.Close() })
	within(t, "Write", func() { <-written })
}

// Many connections at once and one after another to one pod: all are answered,
// over few connections to the API server.
func TestManyStreams(t *testing.T) {
	d := cluster(t, func(data, faults httpstream.Stream, _ httpstream.Connection) {
		_, _ = io.Copy(data, data)
		end(data, faults)
	})
	within(t, "the exchange", func() {
		done := make(chan error)
		const clients, rounds = 16, 5
		for range clients {
			go func() {
				for range rounds {
					s, err := d.Dial(t.Context(), pod, 8080)
					if err != nil {
						done <- err
						return
					}
					_, err = io.WriteString(s, "hello")
					err = errors.Join(err, s.CloseWrite())
					answer, err2 := io.ReadAll(s)
					if err = errors.Join(err, err2, s.Close()); err == nil && string(answer) != "hello" {
						err = errors.New("the answer is " + string(answer))
					}
					if err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
		}
		for range clients {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// A pod that ends connections without reading what was said on them leaves the
// server's workers stuck. No later connection is held up by that.
func TestUnreadBytesHoldUpNoOther(t *testing.T) {
	d := cluster(t, func(data, faults httpstream.Stream, _ httpstream.Connection) {
		_ = data.Close()
		_, _ = io.WriteString(faults, "read tcp4: read: connection reset by peer")
		_ = faults.Close()
	})
	within(t, "the exchange", func() {
		for range 40 {
			s, err := d.Dial(t.Context(), pod, 8080)
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(s, "hello")
			if _, err := s.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "reset by peer") {
				t.Errorf("Read says %v", err)
			}
			_ = s.Close()
		}
	})
}

// Eight large downloads at once from one pod are all whole, although some of
// them share a connection to the API server and come faster than they are read.
func TestManyDownloads(t *testing.T) {
	const size = 16 << 20
	d := cluster(t, func(data, faults httpstream.Stream, _ httpstream.Connection) {
		_, _ = io.CopyN(data, endless{}, size)
		end(data, faults)
	})
	within(t, "the exchange", func() {
		done := make(chan error)
		for range 8 {
			go func() {
				s, err := d.Dial(t.Context(), pod, 8080)
				if err != nil {
					done <- err
					return
				}
				ours, theirs := net.Pipe()
				go func() {
					_, err := io.Copy(ours, s)
					done <- errors.Join(err, ours.Close(), s.Close())
				}()
				if n, err := io.Copy(io.Discard, theirs); n != size {
					t.Errorf("%d of %d bytes came, %v", n, size, err)
				}
			}()
		}
		for range 8 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// endless is an endless source of bytes, whichever.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
