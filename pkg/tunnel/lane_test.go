package tunnel

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// served returns an upstream to the upstream library's server over a real
// connection; handle gets each data stream.
func served(t *testing.T, handle func(data httpstream.Stream)) *upstream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ours, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	var running sync.WaitGroup
	server, err := spdy.NewServerConnection(theirs, func(s httpstream.Stream, replied <-chan struct{}) error {
		if s.Headers().Get(corev1.StreamType) == corev1.StreamTypeData {
			running.Go(func() {
				<-replied
				handle(s)
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	u := newUpstream(ours, nil)
	running.Go(func() { _ = u.read() })
	t.Cleanup(func() {
		u.fail(errUpstreamClosed)
		_ = server.Close()
		running.Wait()
	})
	return u
}

// On a connection that is shared, a pod that doesn't read holds up its own
// stream alone: not the others, and not new ones.
func TestStalledUploadHoldsUpNoOther(t *testing.T) {
	read := make(chan struct{})
	letRead := sync.OnceFunc(func() { close(read) })
	u := served(t, func(data httpstream.Stream) {
		if data.Headers().Get(corev1.PortHeader) == "1" {
			<-read
			_, _ = io.Copy(io.Discard, data)
			_, _ = io.WriteString(data, "all")
			return
		}
		_, _ = io.Copy(data, data)
	})
	t.Cleanup(letRead) // before the server is closed
	open := func(port uint16) *stream {
		t.Helper()
		s, err := u.open(port)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	stalled, established := open(1), []*stream{open(2), open(2), open(2)}

	const size = 64 << 20
	uploaded := make(chan error, 1)
	go func() {
		_, err := io.CopyN(stalled, zeroes{}, size)
		uploaded <- err
	}()
	full := func() bool {
		u.mu.Lock()
		defer u.mu.Unlock()
		return u.lanes[laneOf(stalled.id)].full()
	}
	for deadline := time.Now().Add(10 * time.Second); !full(); {
		if time.Now().After(deadline) {
			t.Fatal("the upload is never held up")
		}
	}
	for range 200 {
		for _, s := range established {
			echo(t, s)
		}
	}
	for range 10 {
		s, err := u.open(2)
		if errors.Is(err, errUpstreamFull) {
			continue // it goes elsewhere
		}
		if err != nil {
			t.Fatal(err)
		}
		echo(t, s)
		_ = s.Close()
	}
	select {
	case err := <-uploaded:
		t.Fatalf("the upload has ended: %v", err)
	default:
	}

	letRead() // and now it goes on, whole
	if err := <-uploaded; err != nil {
		t.Fatal(err)
	}
	if err := stalled.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(io.LimitReader(stalled, 3)); string(answer) != "all" {
		t.Errorf("the answer is %q, %v", answer, err)
	}
}

// A client that reads nothing, on a connection that is shared, is given up and
// counted; the other stream goes on.
func TestStalledReaderIsGivenUp(t *testing.T) {
	u := served(t, func(data httpstream.Stream) {
		if data.Headers().Get(corev1.PortHeader) == "1" {
			_, _ = io.Copy(data, zeroes{})
			return
		}
		_, _ = io.Copy(data, data)
	})
	stalled, err := u.open(1)
	if err != nil {
		t.Fatal(err)
	}
	sibling, err := u.open(2)
	if err != nil {
		t.Fatal(err)
	}
	client, _ := tcpPair(t) // nobody reads the other end
	ended := make(chan error, 1)
	go func() {
		_, err := stalled.WriteTo(client)
		ended <- err
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, errStalled) {
			t.Errorf("the stalled one ends with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the stalled one is never given up")
	}
	echo(t, sibling)
	if n := u.stalled.Load(); n != 1 {
		t.Errorf("%d are counted", n)
	}
}

// echo says something on a stream that is an echo's and waits for the answer.
func echo(t *testing.T, s *stream) {
	t.Helper()
	said := bytes.Repeat([]byte("x"), 100)
	if _, err := s.Write(said); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(s, make([]byte, len(said)))
		answered <- err
	}()
	select {
	case err := <-answered:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no echo")
	}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { return len(p), nil }
