package fwd_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// half is one direction of a connection in memory: as many bytes as are
// written, then an end.
type half struct {
	mu      sync.Mutex
	changed *sync.Cond
	bytes   []byte
	total   int64
	last    time.Time // when some of it came
	end     error     // for the reader, once the bytes are read
	deaf    error     // for the writer
}

func newHalf() *half {
	h := &half{}
	h.changed = sync.NewCond(&h.mu)
	return h
}

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.bytes) == 0 {
		if h.end != nil {
			return 0, h.end
		}
		h.changed.Wait()
	}
	n := copy(p, h.bytes)
	h.bytes = h.bytes[n:]
	return n, nil
}

func (h *half) write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.deaf != nil:
		return 0, h.deaf
	case h.end != nil:
		return 0, net.ErrClosed
	}
	h.bytes = append(h.bytes, p...)
	h.total += int64(len(p))
	h.last = time.Now()
	h.changed.Broadcast()
	return len(p), nil
}

// stop ends it: what was not read is lost unless the end is in good order.
func (h *half) stop(end, deaf error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.end == nil {
		h.end = end
		if !errors.Is(end, io.EOF) {
			h.bytes = nil
		}
	}
	if h.deaf == nil {
		h.deaf = deaf
	}
	h.changed.Broadcast()
}

// memory is one end of a connection in memory, for tests where time is the
// bubble's. It is a net.Conn with a half-close, and a fwd.Stream.
type memory struct {
	in, out       *half
	local, remote net.Addr
	resets        atomic.Bool
	peer          *memory
	closed        atomic.Bool
}

func newMemory(at netip.AddrPort) (client, server *memory) {
	up, down := newHalf(), newHalf()
	a, b := net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:9")), net.TCPAddrFromAddrPort(at)
	client = &memory{in: down, out: up, local: a, remote: b}
	server = &memory{in: up, out: down, local: b, remote: a, peer: client}
	client.peer = server
	return client, server
}

func (m *memory) Read(p []byte) (int, error)  { return m.in.read(p) }
func (m *memory) Write(p []byte) (int, error) { return m.out.write(p) }

func (m *memory) CloseWrite() error {
	m.out.stop(io.EOF, nil)
	return nil
}

func (m *memory) SetLinger(int) error {
	m.resets.Store(true)
	return nil
}

func (m *memory) Close() error {
	m.closed.Store(true)
	if m.resets.Load() {
		m.breakOff(syscall.ECONNRESET)
		return nil
	}
	m.out.stop(io.EOF, nil)
	m.in.stop(net.ErrClosed, syscall.EPIPE)
	return nil
}

// breakOff ends both directions with an error for the other side.
func (m *memory) breakOff(err error) {
	m.out.stop(err, nil)
	m.in.stop(net.ErrClosed, err)
}

func (m *memory) Received() (n int64, last time.Time) {
	m.in.mu.Lock()
	defer m.in.mu.Unlock()
	return m.in.total, m.in.last
}

func (m *memory) LocalAddr() net.Addr              { return m.local }
func (m *memory) RemoteAddr() net.Addr             { return m.remote }
func (m *memory) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (m *memory) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }
func (m *memory) SetReadDeadline(at time.Time) error {
	time.AfterFunc(time.Until(at), func() { m.in.stop(os.ErrDeadlineExceeded, nil) })
	return nil
}

// behaviour is what becomes of a try to reach a pod: an error, or a handler of
// the connection. The first try is number 1.
type behaviour func(try int) (func(pod *memory), error)

// answers is a pod that takes every connection.
func answers(handle func(pod *memory)) behaviour {
	return func(int) (func(*memory), error) { return handle, nil }
}

// fails is a pod that can't be reached.
func fails(why fwd.Reason) behaviour {
	return func(int) (func(*memory), error) { return nil, unreached(why) }
}

// refuses is a pod of which the stream's Read says that it wasn't reached.
func refuses(why fwd.Reason) behaviour {
	return answers(func(pod *memory) { pod.breakOff(unreached(why)) })
}

func unreached(why fwd.Reason) error {
	return &fwd.UnreachedError{Why: why, Err: errors.New("unreached")}
}

// speaks says a text, and ends in good order.
func speaks(text string) behaviour {
	return answers(func(pod *memory) { _, _ = io.WriteString(pod, text) })
}

// echoes says what it hears until that ends.
func echoes() behaviour { return answers(func(pod *memory) { _, _ = io.Copy(pod, pod) }) }

// fleet is a Dialer whose pods behave as the test says, by name.
type fleet struct {
	running sync.WaitGroup
	mu      sync.Mutex
	pods    map[string]behaviour
	tries   map[string]int
}

func (f *fleet) Dial(_ context.Context, pod plan.PodRef, _ uint16) (fwd.Stream, error) {
	f.mu.Lock()
	f.tries[pod.Name]++
	try, behave := f.tries[pod.Name], f.pods[pod.Name]
	f.mu.Unlock()
	handle, err := behave(try)
	if err != nil {
		return nil, err
	}
	stream, server := newMemory(netip.MustParseAddrPort("10.0.0.1:80"))
	f.running.Go(func() {
		defer server.Close()
		handle(server)
	})
	return stream, nil
}

// become has a pod behave otherwise from now on.
func (f *fleet) become(pod string, behave behaviour) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pods[pod] = behave
}

func (f *fleet) tried(pod string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tries[pod]
}

// memoryPorts accepts connections in memory.
type memoryPorts struct {
	fakePorts
	conns chan net.Conn
}

func (memoryPorts) How() string { return "in memory" }

func (p memoryPorts) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// bubble is an engine in a bubble of synctest, with a service and its pods.
type bubble struct {
	*testing.T
	engine *fwd.Engine
	source *source
	fleet  *fleet
	conns  chan net.Conn
	stop   func() error
}

// inBubble runs a test in a bubble, with the engine that prepare sets up; it
// has a hold of 10 s, and knows which clients have gone. svc is the first state.
func inBubble(t *testing.T, svc plan.Service, pods map[string]behaviour, prepare func(*fwd.Engine), test func(b *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		b := &bubble{T: t, source: newSource(), conns: make(chan net.Conn), fleet: &fleet{pods: pods, tries: make(map[string]int)}}
		b.engine = &fwd.Engine{
			Source: b.source, Dialer: b.fleet, Aliases: fakeAliases{h}, Names: fakeNames{h},
			Ports: memoryPorts{fakePorts{h, make(chan struct{})}, b.conns},
			Hold:  10 * time.Second,
			Gone:  func(conn net.Conn) bool { return conn.(*memory).peer.closed.Load() },
		}
		if prepare != nil {
			prepare(b.engine)
		}
		b.stop = start(t, b.engine)
		t.Cleanup(b.fleet.running.Wait)
		b.set(svc)
		test(b)
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
}

// set makes that the cluster's state, and waits until the engine has it.
func (b *bubble) set(services ...plan.Service) {
	b.source.set(services...)
	b.after(100 * time.Millisecond)
}

// after lets the bubble's time pass.
func (b *bubble) after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// connect opens a connection to the service.
func (b *bubble) connect() *memory {
	b.Helper()
	return b.connectTo(0)
}

// connectTo opens one to the service's port of that index.
func (b *bubble) connectTo(port int) *memory {
	b.Helper()
	web := b.engine.Status().Hosts[0]
	client, accepted := newMemory(netip.AddrPortFrom(web.Address, web.Ports[port].Number))
	b.conns <- accepted
	b.Cleanup(func() { _ = client.Close() })
	return client
}

// ask says something, and returns what comes until the end, and when that is.
func (b *bubble) ask(say string) (answer string, took time.Duration, err error) {
	b.Helper()
	return b.hear(b.connect(), say)
}

func (b *bubble) hear(client *memory, say string) (answer string, took time.Duration, err error) {
	b.Helper()
	began := time.Now()
	_, _ = io.WriteString(client, say)
	heard, err := io.ReadAll(client)
	_ = client.Close()
	return string(heard), time.Since(began), err
}

// wantReset asks and expects a reset after the time given.
func (b *bubble) wantReset(after time.Duration) {
	b.Helper()
	_, took, err := b.ask("x")
	if !errors.Is(err, syscall.ECONNRESET) || took != after {
		b.Errorf("%v after %v, want a reset after %v", err, took, after)
	}
}

// wantAnswer asks and expects an answer.
func (b *bubble) wantAnswer(want string) (took time.Duration) {
	b.Helper()
	answer, took, err := b.ask("x")
	if answer != want || err != nil {
		b.Errorf("answer %q, %v after %v; want %q", answer, err, took, want)
	}
	return took
}
