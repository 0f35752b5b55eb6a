package tunnel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/streaming/pkg/httpstream"
)

// mustReturn fails the test if f blocks. The timeout allows for a busy machine.
func mustReturn(t *testing.T, name string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatalf("%s blocks, want it to return", name)
	}
}

// Dial returns when its context ends, even if the API server accepts the
// connection but never responds.
func TestDialOfSilentServerEndsWithContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		if conn, err := l.Accept(); err == nil {
			accepted <- conn
		}
	}()
	for _, scheme := range []string{"http://", "https://"} {
		d := run(t, &rest.Config{Host: scheme + l.Addr().String()})
		ctx, cancel := context.WithCancel(t.Context())
		if scheme == "http://" {
			go func() {
				conn := <-accepted // the request comes next
				cancel()
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			}()
		} else {
			time.AfterFunc(50*time.Millisecond, cancel)
		}
		mustReturn(t, "Dial", func() {
			if _, err := d.Dial(ctx, pod, 8080); !errors.Is(err, context.Canceled) {
				t.Errorf("got error %v, want %v", err, context.Canceled)
			}
		})
	}
}

// A stream can be closed while its pod reads nothing.
func TestCloseOfStalledUpload(t *testing.T) {
	stalled := make(chan struct{})
	s := dial(t, newCluster(t, func(data, _ httpstream.Stream, _ httpstream.Connection) {
		<-stalled // reads nothing until the test ends
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
	for blocked := false; !blocked; { // no progress for 300ms
		select {
		case <-progress:
		case <-time.After(300 * time.Millisecond):
			blocked = true
		}
	}
	mustReturn(t, "Close", func() { _ = s.Close() })
	mustReturn(t, "Write", func() { <-written })
}

// Many parallel and successive connections to one pod all get replies, over few
// connections to the API server.
func TestManyStreams(t *testing.T) {
	d := newCluster(t, func(data, errStream httpstream.Stream, _ httpstream.Connection) {
		_, _ = io.Copy(data, data)
		end(data, errStream)
	})
	mustReturn(t, "the exchange", func() {
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
					got, readErr := io.ReadAll(s)
					if err = errors.Join(err, readErr, s.Close()); err == nil && string(got) != "hello" {
						err = fmt.Errorf("got reply %q, want \"hello\"", got)
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

// A pod that closes connections with unread bytes leaves the server's workers
// stuck. This doesn't block later connections.
func TestUnreadBytesBlockNoLaterStream(t *testing.T) {
	d := newCluster(t, func(data, errStream httpstream.Stream, _ httpstream.Connection) {
		_ = data.Close()
		_, _ = io.WriteString(errStream, "read tcp4: read: connection reset by peer")
		_ = errStream.Close()
	})
	mustReturn(t, "the exchange", func() {
		for range 40 {
			s, err := d.Dial(t.Context(), pod, 8080)
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(s, "hello")
			if _, err := s.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "reset by peer") {
				t.Errorf("got error %v, want one with \"reset by peer\"", err)
			}
			_ = s.Close()
		}
	})
}

// Eight parallel large downloads from one pod are complete, although some of them
// share a connection to the API server and their clients read slowly.
func TestParallelDownloadsAreComplete(t *testing.T) {
	const size = 16 << 20
	d := newCluster(t, func(data, errStream httpstream.Stream, _ httpstream.Connection) {
		_, _ = io.CopyN(data, endless{}, size)
		end(data, errStream)
	})
	mustReturn(t, "the exchange", func() {
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
					t.Errorf("got %d bytes and error %v, want %d bytes", n, err, size)
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

// endless is an endless source of arbitrary bytes.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
