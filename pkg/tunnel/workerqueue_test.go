package tunnel

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// newServedUpstream returns an upstream to a moby/spdystream server over a real
// connection. The server calls handle for each data stream.
func newServedUpstream(t *testing.T, handle func(data httpstream.Stream)) *upstream {
	t.Helper()
	return newPingedUpstream(t, handle, 0)
}

// newPingedUpstream is newServedUpstream with a server that sends PINGs at an
// interval.
func newPingedUpstream(t *testing.T, handle func(data httpstream.Stream), interval time.Duration) *upstream {
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
	server, err := spdy.NewServerConnectionWithPings(theirs, func(s httpstream.Stream, replied <-chan struct{}) error {
		if s.Headers().Get(corev1.StreamType) == corev1.StreamTypeData {
			running.Go(func() {
				<-replied
				handle(s)
			})
		}
		return nil
	}, interval)
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

// On a shared connection, a pod that doesn't read blocks only its own stream, not
// the others, and no new ones.
func TestStalledUploadBlocksNoOtherStream(t *testing.T) {
	read := make(chan struct{})
	letRead := sync.OnceFunc(func() { close(read) })
	u := newServedUpstream(t, func(data httpstream.Stream) {
		if data.Headers().Get(corev1.PortHeader) == "1" {
			<-read
			_, _ = io.Copy(io.Discard, data)
			_, _ = io.WriteString(data, "all")
			return
		}
		_, _ = io.Copy(data, data)
	})
	t.Cleanup(letRead) // before the server is closed
	stalled, established := mustOpen(t, u, 1), []*stream{mustOpen(t, u, 2), mustOpen(t, u, 2), mustOpen(t, u, 2)}

	const size = 64 << 20
	uploaded := make(chan error, 1)
	go func() {
		_, err := io.CopyN(stalled, zeroes{}, size)
		uploaded <- err
	}()
	awaitFullQueue(t, u, stalled.id)
	for range 200 {
		for _, s := range established {
			echo(t, s)
		}
	}
	for range 10 {
		s, err := u.open(2)
		if errors.Is(err, errUpstreamFull) {
			continue // Dial would use another upstream
		}
		if err != nil {
			t.Fatal(err)
		}
		echo(t, s)
		_ = s.Close()
	}
	select {
	case err := <-uploaded:
		t.Fatalf("got a completed upload (error %v), want it blocked", err)
	default:
	}

	letRead() // the upload completes
	if err := <-uploaded; err != nil {
		t.Fatal(err)
	}
	if err := stalled.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(io.LimitReader(stalled, 3)); string(got) != "all" {
		t.Errorf("got reply %q and error %v, want \"all\"", got, err)
	}
}

// mustOpen opens a stream.
func mustOpen(t *testing.T, u *upstream, port uint16) *stream {
	t.Helper()
	s, err := u.open(port)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// awaitFullQueue waits until a stream's queue is full.
func awaitFullQueue(t *testing.T, u *upstream, id uint32) {
	t.Helper()
	full := func() bool {
		u.mu.Lock()
		defer u.mu.Unlock()
		return u.queues[queueOf(id)].full()
	}
	for deadline := time.Now().Add(10 * time.Second); !full(); {
		if time.Now().After(deadline) {
			t.Fatal("got no full queue within 10s, want the upload to be blocked")
		}
	}
}

// Replies to the server's PINGs occupy its workers like our own PINGs, but ack
// nothing.
func TestServerPingsAreCounted(t *testing.T) {
	read := make(chan struct{})
	u := newPingedUpstream(t, func(data httpstream.Stream) {
		if data.Headers().Get(corev1.PortHeader) == "1" {
			<-read
			return
		}
		_, _ = io.Copy(data, data)
	}, 50*time.Millisecond)
	t.Cleanup(func() { close(read) })
	for deadline := time.After(10 * time.Second); ; {
		u.mu.Lock()
		echoed := u.pingCount // no PINGs of ours yet
		u.mu.Unlock()
		if echoed > 0 && echoed%workers != 0 {
			break
		}
		select {
		case <-deadline:
			t.Fatal("got no PING from the server within 10s")
		case <-time.After(time.Millisecond):
		}
	}
	stalled := mustOpen(t, u, 1)
	sibling := mustOpen(t, u, 2)
	var uploading sync.WaitGroup
	uploading.Go(func() { _, _ = io.CopyN(stalled, zeroes{}, 64<<20) })
	defer uploading.Wait()
	defer u.fail(errUpstreamClosed)
	for range 50 {
		echo(t, sibling)
		<-time.After(10 * time.Millisecond) // a few PINGs from the server
	}
}

// An upstream whose lone stream exceeds its queue's limit takes no other streams:
// the server may have stopped reading.
func TestNoStreamJoinsStalledUpload(t *testing.T) {
	begun, read := make(chan struct{}), make(chan struct{})
	u := newServedUpstream(t, func(httpstream.Stream) {
		close(begun)
		<-read
	})
	t.Cleanup(func() { close(read) })
	stalled := mustOpen(t, u, 1)
	<-begun
	for range 100 {
		if _, err := stalled.Write([]byte("small enough for the kernel to take them all")); err != nil {
			t.Fatal(err)
		}
	}
	if f := u.fitness(); f != unfit {
		t.Errorf("got fitness %v, want %v", f, unfit)
	}
}

// open doesn't wait for a blocked write.
func TestOpenFailsDuringBlockedWrite(t *testing.T) {
	u := mute(t)
	u.writeMu.Lock()
	defer u.writeMu.Unlock()
	if _, err := u.open(1); !errors.Is(err, errUpstreamFull) {
		t.Errorf("got error %v, want %v", err, errUpstreamFull)
	}
}

// A stream starves if its client waits for bytes while another stream blocks the
// reader.
func TestStarving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := mute(t)
		s := newStream(u, 3)
		starvesAfter := func(blockedSince time.Time) time.Duration {
			begin := time.Now()
			for time.Since(begin) < time.Minute {
				if s.starving(blockedSince, slowClientGrace) {
					return time.Since(begin)
				}
				<-time.After(time.Second)
			}
			return 0
		}
		if d := starvesAfter(time.Now()); d != 0 {
			t.Errorf("new stream: got starving after %v, want never", d)
		}
		_ = s.startWrite() // a request
		if d := starvesAfter(time.Now()); d != slowClientGrace {
			t.Errorf("stream without a reply: got starving after %v, want %v", d, slowClientGrace)
		}
		blockedSince := time.Now()
		<-time.After(3 * time.Second)
		_ = s.startWrite()
		if d := starvesAfter(blockedSince); d != slowClientGrace {
			t.Errorf("stream with a later request: got starving after %v, want %v", d, slowClientGrace)
		}
		s.received, s.lastProgress = 100, time.Now()
		if d := starvesAfter(time.Now()); d != slowClientGrace {
			t.Errorf("stream that received bytes: got starving after %v, want %v", d, slowClientGrace)
		}
		<-time.After(flowWindow)
		if d := starvesAfter(time.Now()); d != 0 {
			t.Errorf("stream that received bytes long ago: got starving after %v, want never", d)
		}
		_ = s.startWrite()
		s.backlog = []byte("not read yet")
		if d := starvesAfter(time.Now()); d != 0 {
			t.Errorf("stream with a backlog: got starving after %v, want never", d)
		}
	})
}

// blocksOthers reports whether the client blocks other streams.
func (s *stream) blocksOthers() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.blockingSince.IsZero()
}

// A client that reads nothing is reset and counted when another stream on the same
// connection waits for a reply. The other stream continues.
func TestStalledClientIsReset(t *testing.T) {
	u := newServedUpstream(t, func(data httpstream.Stream) {
		if data.Headers().Get(corev1.PortHeader) == "1" {
			_, _ = io.Copy(data, zeroes{})
			return
		}
		_, _ = io.Copy(data, data)
	})
	stalled := mustOpen(t, u, 1)
	sibling := mustOpen(t, u, 2)
	client, _ := tcpPair(t) // the other end isn't read
	ended := make(chan error, 1)
	go func() {
		_, err := stalled.WriteTo(client)
		ended <- err
	}()
	for deadline := time.After(10 * time.Second); !stalled.blocksOthers(); {
		select {
		case err := <-ended:
			t.Fatalf("got error %v while no other stream waits, want none", err)
		case <-deadline:
			t.Fatal("got no blocked reader within 10s")
		case <-time.After(time.Millisecond):
		}
	}
	if _, err := sibling.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, errStalled) {
			t.Errorf("got error %v, want %v", err, errStalled)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("got no reset of the stalled client within 10s")
	}
	if _, err := io.ReadFull(sibling, make([]byte, 5)); err != nil {
		t.Error(err)
	}
	if n := u.stalled.Load(); n != 1 {
		t.Errorf("got %d stalled streams, want 1", n)
	}
}

// echo sends bytes on a stream that echoes, and waits for the reply.
func echo(t *testing.T, s *stream) {
	t.Helper()
	sent := bytes.Repeat([]byte("x"), 100)
	if _, err := s.Write(sent); err != nil {
		t.Fatal(err)
	}
	replied := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(s, make([]byte, len(sent)))
		replied <- err
	}()
	select {
	case err := <-replied:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("got no reply within 10s")
	}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { return len(p), nil }
