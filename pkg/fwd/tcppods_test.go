package fwd_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/listen"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// tcpPods is a Dialer whose pods are TCP servers: it maps their names to addresses.
type tcpPods map[string]string

func (p tcpPods) Dial(ctx context.Context, pod plan.PodRef, _ uint16) (fwd.Stream, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", p[pod.Name])
	if err != nil {
		return nil, &fwd.UnreachedError{Reason: fwd.PortClosed, Err: err}
	}
	return &tcpStream{TCPConn: conn.(*net.TCPConn)}, nil
}

func (tcpPods) Check(context.Context, plan.PodRef) error { return nil }

// tcpStream is a stream over a TCP connection.
type tcpStream struct {
	*net.TCPConn
	received atomic.Int64
	last     atomic.Pointer[time.Time]
}

func (s *tcpStream) Read(p []byte) (int, error) {
	n, err := s.TCPConn.Read(p)
	s.received.Add(int64(n))
	if now := time.Now(); n > 0 {
		s.last.Store(&now)
	}
	return n, err
}

// WriteTo hides that of TCPConn, which doesn't count.
func (s *tcpStream) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{s})
}

func (s *tcpStream) Received() (n int64, last time.Time) {
	if at := s.last.Load(); at != nil {
		last = *at
	}
	return s.received.Load(), last
}

// serve runs a TCP server that calls handle for each connection, and returns its
// address.
func serve(t *testing.T, handle func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				handle(conn.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
	return l.Addr().String()
}

// sends returns a handler that writes a text and closes the connection.
func sends(text string) func(*net.TCPConn) {
	return func(conn *net.TCPConn) { _, _ = io.WriteString(conn, text) }
}

// forwarding starts an engine with real sockets for the service, and returns the
// address of its port and a function that stops the engine.
func forwarding(t *testing.T, dialer fwd.Dialer, svc plan.Service) (at string, s *source, stop func() error) {
	t.Helper()
	at, _, s, stop = forwardingWith(t, &fwd.Engine{Dialer: dialer, DrainTimeout: time.Second}, svc)
	return at, s, stop
}

// forwardingWith is like forwarding, with an engine that the test has set up.
func forwardingWith(t *testing.T, e *fwd.Engine, svc plan.Service) (at string, h *host, s *source, stop func() error) {
	t.Helper()
	h, s = newHost(), newSource()
	if e.Log == nil {
		log := logrus.New()
		log.SetOutput(t.Output())
		e.Log = log
	}
	if svc.Ports[0].Number == 80 {
		svc.Ports[0].Number = freePort(t)
	}
	e.Source, e.Aliases, e.Names, e.Ports = s, fakeAliases{h}, fakeNames{h}, listen.New(listen.NewEach("test"))
	stop = start(t, e)
	s.set(svc)
	deadline := time.After(10 * time.Second)
	for len(e.Status().Hosts) == 0 {
		select {
		case <-h.changed:
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			t.Fatal("the engine has no hosts")
		}
	}
	web := e.Status().Hosts[0]
	return netip.AddrPortFrom(web.Address, web.Ports[0].Number).String(), h, s, stop
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

// resets ends a connection with a reset once the client has written something. Before
// that, the dial could fail, and another pod would be tried.
func resets(conn *net.TCPConn) {
	_, _ = conn.Read(make([]byte, 1))
	_ = conn.SetLinger(0)
}

// ask connects, writes a text and returns what it reads to the end.
func ask(t *testing.T, at, text string) (string, error) {
	t.Helper()
	conn, err := net.Dial("tcp", at)
	if err != nil {
		return "", err // a reset may come this early
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(conn, text)
	answer, err := io.ReadAll(conn)
	return string(answer), err
}
