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

// served returns an upstream to the upstream library's server over a real
// connection; handle gets each data stream.
func served(t *testing.T, handle func(data httpstream.Stream)) *upstream {
	t.Helper()
	return servedWithPings(t, handle, 0)
}

// servedWithPings is served, by a server that sends a PING so often.
func servedWithPings(t *testing.T, handle func(data httpstream.Stream), every time.Duration) *upstream {
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
	}, every)
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
		return u.queues[queueOf(stalled.id)].full()
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

// The server's own PINGs take turns of its workers too, and prove nothing.
func TestPingsOfTheServersDontMislead(t *testing.T) {
	read := make(chan struct{})
	u := servedWithPings(t, func(data httpstream.Stream) {
		if data.Headers().Get(corev1.PortHeader) == "1" {
			<-read
			return
		}
		_, _ = io.Copy(data, data)
	}, 50*time.Millisecond)
	t.Cleanup(func() { close(read) })
	for deadline := time.After(10 * time.Second); ; {
		u.mu.Lock()
		echoed := u.pingCount // none of ours was sent
		u.mu.Unlock()
		if echoed > 0 && echoed%workers != 0 {
			break
		}
		select {
		case <-deadline:
			t.Fatal("the server sends no PING")
		case <-time.After(time.Millisecond):
		}
	}
	stalled, err := u.open(1)
	if err != nil {
		t.Fatal(err)
	}
	sibling, err := u.open(2)
	if err != nil {
		t.Fatal(err)
	}
	var uploading sync.WaitGroup
	uploading.Go(func() { _, _ = io.CopyN(stalled, zeroes{}, 64<<20) })
	defer uploading.Wait()
	defer u.fail(errUpstreamClosed)
	for range 50 {
		echo(t, sibling)
		<-time.After(10 * time.Millisecond) // a few of the server's PINGs
	}
}

// No stream joins one whose pod may have stopped reading: the server may not
// read any more, as nothing bounds a stream that is alone.
func TestNoStreamJoinsAStalledUpload(t *testing.T) {
	begun, read := make(chan struct{}), make(chan struct{})
	u := served(t, func(httpstream.Stream) {
		close(begun)
		<-read
	})
	t.Cleanup(func() { close(read) })
	stalled, err := u.open(1)
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	for range 100 {
		if _, err := stalled.Write([]byte("small enough for the kernel to take them all")); err != nil {
			t.Fatal(err)
		}
	}
	if f := u.fitness(); f != unfit {
		t.Errorf("it takes another stream: %v", f)
	}
}

// A stream isn't opened behind a write that doesn't get on.
func TestOpenDoesNotWait(t *testing.T) {
	u := mute(t)
	u.writeMu.Lock()
	defer u.writeMu.Unlock()
	if _, err := u.open(1); !errors.Is(err, errUpstreamFull) {
		t.Errorf("open says %v", err)
	}
}

// Who waits for bytes while another stream holds the reading up, and who only
// seems to.
func TestStarves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := mute(t)
		s := newStream(u, 3)
		starvesAfter := func(held time.Time) time.Duration {
			begin := time.Now()
			for time.Since(begin) < time.Minute {
				if s.starving(held, slowClientGrace) {
					return time.Since(begin)
				}
				<-time.After(time.Second)
			}
			return 0
		}
		if d := starvesAfter(time.Now()); d != 0 {
			t.Errorf("a new one starves after %v", d)
		}
		_ = s.startWrite() // it asks for something
		if d := starvesAfter(time.Now()); d != slowClientGrace {
			t.Errorf("one without an answer starves after %v", d)
		}
		held := time.Now()
		<-time.After(3 * time.Second)
		_ = s.startWrite()
		if d := starvesAfter(held); d != slowClientGrace {
			t.Errorf("one that asks later starves after %v", d)
		}
		s.received, s.lastProgress = 100, time.Now()
		if d := starvesAfter(time.Now()); d != slowClientGrace {
			t.Errorf("one with a flow of bytes starves after %v", d)
		}
		<-time.After(flowWindow)
		if d := starvesAfter(time.Now()); d != 0 {
			t.Errorf("one that was answered long ago starves after %v", d)
		}
		_ = s.startWrite()
		s.backlog = []byte("these it could have")
		if d := starvesAfter(time.Now()); d != 0 {
			t.Errorf("one that doesn't take what it has starves after %v", d)
		}
	})
}

// holds tells whether others have to wait for the client.
func (s *stream) holds() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.blockingSince.IsZero()
}

// A client that reads nothing, on a connection that is shared, is given up and
// counted once another one waits for an answer, which goes on.
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
	for deadline := time.After(10 * time.Second); !stalled.holds(); {
		select {
		case err := <-ended:
			t.Fatalf("it is given up although nobody waits: %v", err)
		case <-deadline:
			t.Fatal("it holds nobody up")
		case <-time.After(time.Millisecond):
		}
	}
	if _, err := sibling.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, errStalled) {
			t.Errorf("the stalled one ends with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the stalled one is never given up")
	}
	if _, err := io.ReadFull(sibling, make([]byte, 5)); err != nil {
		t.Error(err)
	}
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
