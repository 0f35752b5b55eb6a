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

// pipe is one direction of a connection in memory. Its buffer is unlimited.
type pipe struct {
	mu       sync.Mutex
	changed  *sync.Cond
	bytes    []byte
	total    int64
	last     time.Time // when the last bytes were written
	readErr  error     // once all bytes are read
	writeErr error
}

func newPipe() *pipe {
	h := &pipe{}
	h.changed = sync.NewCond(&h.mu)
	return h
}

func (h *pipe) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.bytes) == 0 {
		if h.readErr != nil {
			return 0, h.readErr
		}
		h.changed.Wait()
	}
	n := copy(p, h.bytes)
	h.bytes = h.bytes[n:]
	return n, nil
}

func (h *pipe) write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.writeErr != nil:
		return 0, h.writeErr
	case h.readErr != nil:
		return 0, net.ErrClosed
	}
	h.bytes = append(h.bytes, p...)
	h.total += int64(len(p))
	h.last = time.Now()
	h.changed.Broadcast()
	return len(p), nil
}

// stop ends the pipe. Unread bytes are lost unless readErr is io.EOF.
func (h *pipe) stop(readErr, writeErr error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.readErr == nil {
		h.readErr = readErr
		if !errors.Is(readErr, io.EOF) {
			h.bytes = nil
		}
	}
	if h.writeErr == nil {
		h.writeErr = writeErr
	}
	h.changed.Broadcast()
}

// memConn is one end of a connection in memory, for tests in a bubble of synctest.
// It is a net.Conn with a CloseWrite, and a fwd.Stream.
type memConn struct {
	in, out       *pipe
	local, remote net.Addr
	resets        atomic.Bool
	peer          *memConn
	closed        atomic.Bool
}

func newMemConn(at netip.AddrPort) (client, server *memConn) {
	up, down := newPipe(), newPipe()
	a, b := net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:9")), net.TCPAddrFromAddrPort(at)
	client = &memConn{in: down, out: up, local: a, remote: b}
	server = &memConn{in: up, out: down, local: b, remote: a, peer: client}
	client.peer = server
	return client, server
}

func (m *memConn) Read(p []byte) (int, error)  { return m.in.read(p) }
func (m *memConn) Write(p []byte) (int, error) { return m.out.write(p) }

func (m *memConn) CloseWrite() error {
	m.out.stop(io.EOF, nil)
	return nil
}

func (m *memConn) SetLinger(int) error {
	m.resets.Store(true)
	return nil
}

func (m *memConn) Close() error {
	m.closed.Store(true)
	if m.resets.Load() {
		m.breakOff(syscall.ECONNRESET)
		return nil
	}
	m.out.stop(io.EOF, nil)
	m.in.stop(net.ErrClosed, syscall.EPIPE)
	return nil
}

// breakOff ends both directions with an error for the peer.
func (m *memConn) breakOff(err error) {
	m.out.stop(err, nil)
	m.in.stop(net.ErrClosed, err)
}

func (m *memConn) Received() (n int64, last time.Time) {
	m.in.mu.Lock()
	defer m.in.mu.Unlock()
	return m.in.total, m.in.last
}

func (m *memConn) LocalAddr() net.Addr              { return m.local }
func (m *memConn) RemoteAddr() net.Addr             { return m.remote }
func (m *memConn) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (m *memConn) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }
func (m *memConn) SetReadDeadline(at time.Time) error {
	time.AfterFunc(time.Until(at), func() { m.in.stop(os.ErrDeadlineExceeded, nil) })
	return nil
}

// behavior returns the result of an attempt to reach a pod: an error, or a
// handler for the connection. Attempts are numbered from 1.
type behavior func(attempt int) (func(pod *memConn), error)

// answers is a pod that accepts every connection.
func answers(handle func(pod *memConn)) behavior {
	return func(int) (func(*memConn), error) { return handle, nil }
}

// failsDial is a pod that can't be dialed.
func failsDial(reason fwd.Reason) behavior {
	return func(int) (func(*memConn), error) { return nil, unreachedError(reason) }
}

// failsRead is a pod for which the stream's Read fails.
func failsRead(reason fwd.Reason) behavior {
	return answers(func(pod *memConn) { pod.breakOff(unreachedError(reason)) })
}

func unreachedError(reason fwd.Reason) error {
	return &fwd.UnreachedError{Reason: reason, Err: errors.New("unreached")}
}

// writes is a pod that writes a text and ends.
func writes(text string) behavior {
	return answers(func(pod *memConn) { _, _ = io.WriteString(pod, text) })
}

// echoes is a pod that echoes until the client's end.
func echoes() behavior { return answers(func(pod *memConn) { _, _ = io.Copy(pod, pod) }) }

// fleet is a Dialer with a behavior for each pod, by name.
type fleet struct {
	running  sync.WaitGroup
	mu       sync.Mutex
	pods     map[string]behavior
	attempts map[string]int
}

func (f *fleet) Dial(_ context.Context, pod plan.PodRef, _ uint16) (fwd.Stream, error) {
	f.mu.Lock()
	f.attempts[pod.Name]++
	attempt, behave := f.attempts[pod.Name], f.pods[pod.Name]
	f.mu.Unlock()
	handle, err := behave(attempt)
	if err != nil {
		return nil, err
	}
	stream, server := newMemConn(netip.MustParseAddrPort("10.0.0.1:80"))
	f.running.Go(func() {
		defer server.Close()
		handle(server)
	})
	return stream, nil
}

// Check fails if the next Dial would.
func (f *fleet) Check(_ context.Context, pod plan.PodRef) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.pods[pod.Name](f.attempts[pod.Name] + 1)
	return err
}

// setBehavior changes the behavior of a pod.
func (f *fleet) setBehavior(pod string, behave behavior) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pods[pod] = behave
}

// attemptsOf returns the number of attempts to reach a pod.
func (f *fleet) attemptsOf(pod string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.attempts[pod]
}

// memPorts accepts connections in memory.
type memPorts struct {
	fakePorts
	conns chan net.Conn
}

func (memPorts) How() string { return "in memory" }

func (p memPorts) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// bubble is an engine with a service and pods, in a bubble of synctest.
type bubble struct {
	*testing.T
	engine *fwd.Engine
	source *source
	fleet  *fleet
	conns  chan net.Conn
	stop   func() error
}

// inBubble runs a test in a bubble. The engine has a hold timeout of 10 s and
// knows which clients have disconnected; prepare, if not nil, may change it. The
// cluster's initial state is svc.
func inBubble(t *testing.T, svc plan.Service, pods map[string]behavior, prepare func(*fwd.Engine), test func(b *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		b := &bubble{T: t, source: newSource(), conns: make(chan net.Conn), fleet: &fleet{pods: pods, attempts: make(map[string]int)}}
		b.engine = &fwd.Engine{
			Source: b.source, Dialer: b.fleet, Aliases: fakeAliases{h}, Names: fakeNames{h},
			Ports:       memPorts{fakePorts{h, make(chan struct{})}, b.conns},
			HoldTimeout: 10 * time.Second,
			ClientGone:  func(conn net.Conn) bool { return conn.(*memConn).peer.closed.Load() },
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

// set sets the cluster's state and waits until the engine has applied it.
func (b *bubble) set(services ...plan.Service) {
	b.source.set(services...)
	b.sleep(100 * time.Millisecond)
}

// sleep lets the bubble's time pass.
func (b *bubble) sleep(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// connect opens a connection to the service.
func (b *bubble) connect() *memConn {
	b.Helper()
	return b.connectTo(0)
}

// connectTo opens a connection to the service's port with that index.
func (b *bubble) connectTo(port int) *memConn {
	b.Helper()
	web := b.engine.Status().Hosts[0]
	client, accepted := newMemConn(netip.AddrPortFrom(web.Address, web.Ports[port].Number))
	b.conns <- accepted
	b.Cleanup(func() { _ = client.Close() })
	return client
}

// ask opens a connection, writes a text and reads to the end. It returns what it
// read, and how long that took.
func (b *bubble) ask(text string) (answer string, took time.Duration, err error) {
	b.Helper()
	return b.exchange(b.connect(), text)
}

// exchange is like ask, with an open connection.
func (b *bubble) exchange(client *memConn, text string) (answer string, took time.Duration, err error) {
	b.Helper()
	began := time.Now()
	_, _ = io.WriteString(client, text)
	received, err := io.ReadAll(client)
	_ = client.Close()
	return string(received), time.Since(began), err
}

// wantReset calls ask and expects a reset after the given time.
func (b *bubble) wantReset(after time.Duration) {
	b.Helper()
	_, took, err := b.ask("x")
	if !errors.Is(err, syscall.ECONNRESET) || took != after {
		b.Errorf("got %v after %v, want a reset after %v", err, took, after)
	}
}

// wantAnswer calls ask and expects an answer.
func (b *bubble) wantAnswer(want string) (took time.Duration) {
	b.Helper()
	answer, took, err := b.ask("x")
	if answer != want || err != nil {
		b.Errorf("got answer %q, %v after %v; want %q", answer, err, took, want)
	}
	return took
}
