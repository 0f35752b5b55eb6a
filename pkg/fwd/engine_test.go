package fwd_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"

	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/listen"
	"github.com/kubeshore/kubeshore/pkg/loopback"
)

// host is a machine that keeps its state as data. It notes every moment at
// which a name points at an address and port that aren't ours.
type host struct {
	mu      sync.Mutex
	aliases []netip.Addr
	ports   []netip.AddrPort
	names   map[netip.Addr][]string
	broken  []string
	refuse  error  // what the next Names.Set says
	taken   string // a name that can't be had
	inUse   bool   // no port can be had
	changed chan struct{}
}

func newHost() *host { return &host{changed: make(chan struct{}, 1)} }

// check must be called with mu held, after each change.
func (h *host) check(after string) {
	for addr := range h.names {
		if !slices.Contains(h.aliases, addr) {
			h.broken = append(h.broken, fmt.Sprintf("after %s: %v has a name and is no address of ours", after, addr))
		}
		if !slices.ContainsFunc(h.ports, func(p netip.AddrPort) bool { return p.Addr() == addr }) {
			h.broken = append(h.broken, fmt.Sprintf("after %s: %v has a name and no port", after, addr))
		}
	}
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

func (h *host) addresses() []netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.aliases)
}

// String renders the machine's state, a line for each address.
func (h *host) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var b strings.Builder
	for _, addr := range h.aliases {
		fmt.Fprintf(&b, "%s", strings.Join(h.names[addr], " "))
		for _, p := range h.ports {
			if p.Addr() == addr {
				fmt.Fprintf(&b, " :%d", p.Port())
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

type fakeAliases struct{ *host }

func (f fakeAliases) Set(_ context.Context, addrs []netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.aliases = slices.Clone(addrs)
	f.check("Aliases.Set")
	return nil
}

type fakeNames struct{ *host }

func (f fakeNames) Set(_ context.Context, table map[netip.Addr][]string) (map[string]error, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.refuse; err != nil {
		f.refuse = nil
		return nil, err
	}
	f.names = maps.Clone(table)
	f.check("Names.Set")
	if f.taken != "" {
		return map[string]error{f.taken: errors.New("it is taken")}, nil
	}
	return nil, nil
}

type fakePorts struct {
	*host
	closed chan struct{}
}

func (f fakePorts) Set(_ context.Context, want []netip.AddrPort) map[netip.AddrPort]error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.inUse {
		faults := make(map[netip.AddrPort]error)
		for _, at := range want {
			faults[at] = errors.New("it is in use")
		}
		return faults
	}
	f.ports = slices.Clone(want)
	f.check("Ports.Set")
	return nil
}

func (f fakePorts) Accept() (net.Conn, error) {
	<-f.closed
	return nil, net.ErrClosed
}

func (f fakePorts) Close() error {
	f.Set(context.Background(), nil)
	close(f.closed)
	return nil
}

// source hands out what it was last given.
type source struct {
	mu       sync.Mutex
	snapshot fwd.Snapshot
	changed  chan struct{}
}

func newSource() *source { return &source{changed: make(chan struct{}, 1)} }

func (s *source) set(services ...fwd.Service) {
	s.mu.Lock()
	s.snapshot = fwd.Snapshot{Services: services}
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *source) Changed() <-chan struct{} { return s.changed }

func (s *source) Snapshot() fwd.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.snapshot
}

// service returns a Service with one port 80 and the pods given as ready.
func service(name string, pods ...string) fwd.Service {
	svc := fwd.Service{
		ID:    fwd.ServiceID{Context: "c", Namespace: "ns", Name: name},
		Ports: []fwd.ServicePort{{Protocol: "TCP", Number: 80}},
	}
	for _, pod := range pods {
		svc.Endpoints = append(svc.Endpoints, fwd.Endpoint{
			Pod:   fwd.PodRef{Context: "c", Namespace: "ns", Name: pod, UID: pod},
			Ready: true, Serving: true,
			Ports: map[string]uint16{"": 8080},
		})
	}
	return svc
}

// start runs an engine on the host given until the test ends, or until stop is
// called, which returns what Run said.
func start(t *testing.T, e *fwd.Engine) (stop func() error) {
	t.Helper()
	if e.Log == nil {
		log, _ := test.NewNullLogger()
		e.Log = log
	}
	pool, err := loopback.NewPool(loopback.DefaultPrefix)
	if err != nil {
		t.Fatal(err)
	}
	e.Addresses = pool
	e.Options = fwd.Options{Context: "c", Namespace: "ns"}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx, context.Background()) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = stop() })
	return stop
}

// eventually waits until the condition holds, looking again whenever the
// host has changed.
func (h *host) eventually(t *testing.T, want func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !want() {
		select {
		case <-h.changed:
		case <-deadline:
			t.Fatalf("not reached; the host has:\n%s", h)
		}
	}
}

func TestEngineFollowsAndRestores(t *testing.T) {
	h, s := newHost(), newSource()
	log, lines := test.NewNullLogger()
	stop := start(t, &fwd.Engine{Source: s, Aliases: fakeAliases{h}, Names: fakeNames{h}, Ports: fakePorts{h, make(chan struct{})}, Log: log})

	s.set(service("web", "a"))
	h.eventually(t, func() bool {
		return h.String() == "web.ns.svc.cluster.local web.ns.svc web.ns web :80\n"
	})
	s.set(service("other"))
	h.eventually(t, func() bool {
		return h.String() == "other.ns.svc.cluster.local other.ns.svc other.ns other :80\n"
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if got := h.String(); got != "" {
		t.Errorf("after the end the host still has:\n%s", got)
	}
	for _, broken := range h.broken {
		t.Error(broken)
	}
	said := make([]string, 0, 4)
	for _, entry := range lines.AllEntries() {
		fields := strings.Fields(entry.Message)
		said = append(said, strings.Join(fields[:min(2, len(fields))], " "))
	}
	if want := []string{"+ web.ns", "ready", "+ other.ns", "- web.ns"}; !slices.Equal(said, want) {
		t.Errorf("the log says %q, want %q", said, want)
	}
}

// A random walk of cluster states: whatever comes and goes, at no moment does
// a name point at nothing, and the last state is reached.
func TestEngineRandomWalk(t *testing.T) {
	h, s := newHost(), newSource()
	stop := start(t, &fwd.Engine{Source: s, Aliases: fakeAliases{h}, Names: fakeNames{h}, Ports: fakePorts{h, make(chan struct{})}})
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for range 30 {
		var services []fwd.Service
		want := 0
		for i := range 12 {
			if random.IntN(2) == 0 {
				continue
			}
			svc := service(fmt.Sprintf("s%02d", i), "a", "b")
			svc.Headless = random.IntN(3) == 0
			want++
			if svc.Headless {
				want += 2
			}
			services = append(services, svc)
		}
		s.set(services...)
		if random.IntN(3) > 0 {
			continue // the next change comes at once
		}
		h.eventually(t, func() bool { return strings.Count(h.String(), "svc.cluster.local") == want })
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if got := h.String(); got != "" {
		t.Errorf("seed %d: after the end the host still has:\n%s", seed, got)
	}
	for _, broken := range h.broken {
		t.Errorf("seed %d: %s", seed, broken)
	}
}

func TestEngineFaultOfNames(t *testing.T) {
	full := errors.New("no space left on device")
	t.Run("at first it is final", func(t *testing.T) {
		h, s := newHost(), newSource()
		h.refuse = full
		e := &fwd.Engine{Source: s, Aliases: fakeAliases{h}, Names: fakeNames{h}, Ports: fakePorts{h, make(chan struct{})}}
		s.set(service("web", "a"))
		log, _ := test.NewNullLogger()
		e.Log = log
		e.Addresses, _ = loopback.NewPool(loopback.DefaultPrefix)
		if err := e.Run(t.Context(), t.Context()); !errors.Is(err, full) {
			t.Errorf("Run: %v, want %v", err, full)
		}
		if got := h.String(); got != "" {
			t.Errorf("the host has:\n%s", got)
		}
	})
	t.Run("later what has a name keeps its port", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, s := newHost(), newSource()
			start(t, &fwd.Engine{Source: s, Aliases: fakeAliases{h}, Names: fakeNames{h}, Ports: fakePorts{h, make(chan struct{})}})
			s.set(service("web", "a"))
			h.eventually(t, func() bool { return strings.Contains(h.String(), "web.ns ") })
			h.mu.Lock()
			h.refuse = full
			h.mu.Unlock()
			s.set(service("other", "a"))
			h.eventually(t, func() bool { return strings.Count(h.String(), ":80") == 2 })
			h.eventually(t, func() bool { return strings.HasPrefix(h.String(), "other.ns.") && !strings.Contains(h.String(), "web") })
			for _, broken := range h.broken {
				t.Error(broken)
			}
		})
	})
}

// pods is a Dialer whose pods are TCP servers of the test, by the pod's name.
type pods map[string]string

func (p pods) Dial(ctx context.Context, pod fwd.PodRef, _ uint16) (fwd.Stream, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", p[pod.Name])
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// serve runs a TCP server that gives each connection to handle, and returns
// its address.
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

// says returns a handler that sends a text and ends in good order.
func says(text string) func(*net.TCPConn) {
	return func(conn *net.TCPConn) { _, _ = io.WriteString(conn, text) }
}

// forwarding starts an engine that really listens, for the service web with the
// pods given. It returns where, and a function that stops the engine.
func forwarding(t *testing.T, dialer fwd.Dialer, svc fwd.Service) (at string, s *source, stop func() error) {
	t.Helper()
	h, s := newHost(), newSource()
	log := logrus.New()
	log.SetOutput(t.Output())
	svc.Ports[0].Number = freePort(t)
	e := &fwd.Engine{Source: s, Dialer: dialer, Aliases: fakeAliases{h}, Names: fakeNames{h}, Ports: listen.NewEach(), Log: log}
	stop = start(t, e)
	s.set(svc)
	deadline := time.After(10 * time.Second)
	for len(e.Status().Hosts) == 0 {
		select {
		case <-h.changed:
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			t.Fatal("not ready")
		}
	}
	web := e.Status().Hosts[0]
	return netip.AddrPortFrom(web.Address, web.Ports[0].Number).String(), s, stop
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

// resets breaks the connection off once the client has said something: before, the
// dial could fail, and another pod would be taken.
func resets(conn *net.TCPConn) {
	_, _ = conn.Read(make([]byte, 1))
	_ = conn.SetLinger(0)
}

// ask connects, says something, reads to the end, and returns what came.
func ask(t *testing.T, at, say string) (string, error) {
	t.Helper()
	conn, err := net.Dial("tcp", at)
	if err != nil {
		return "", err // a reset may come this early
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(conn, say)
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

// A port that can't be had is said, has no name, and is tried again.
func TestEngineFaultOfAPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := newHost(), newSource()
		h.inUse = true
		e := &fwd.Engine{Source: s, Aliases: fakeAliases{h}, Names: fakeNames{h}, Ports: fakePorts{h, make(chan struct{})}}
		start(t, e)
		s.set(service("web", "a"))
		synctest.Wait()
		web := e.Status().Hosts[0]
		if len(web.Names) > 0 || web.Ports[0].Err == nil || len(web.Problems) != 1 || strings.Contains(h.String(), "web") {
			t.Errorf("got %+v on\n%s", web, h)
		}
		h.mu.Lock()
		h.inUse = false
		h.mu.Unlock()
		h.eventually(t, func() bool { return strings.Contains(h.String(), "web.ns ") })
		synctest.Wait()
		if web = e.Status().Hosts[0]; len(web.Problems) > 0 || web.Ports[0].Err != nil {
			t.Errorf("got %+v", web)
		}
	})
}

// What can't be had of the names is said, the rest is in force.
func TestEngineRefusedName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := newHost(), newSource()
		h.taken = "web.ns"
		e := &fwd.Engine{Source: s, Aliases: fakeAliases{h}, Names: fakeNames{h}, Ports: fakePorts{h, make(chan struct{})}}
		start(t, e)
		s.set(service("web", "a"))
		synctest.Wait()
		web := e.Status().Hosts[0]
		if slices.Contains(web.Names, "web.ns") || len(web.Names) != 3 || len(web.Problems) != 1 {
			t.Errorf("got %+v", web)
		}
		h.mu.Lock()
		h.taken = ""
		h.mu.Unlock()
		<-time.After(6 * time.Second) // of the bubble's time: the next try
		synctest.Wait()
		if web = e.Status().Hosts[0]; len(web.Names) != 4 || len(web.Problems) > 0 {
			t.Errorf("got %+v", web)
		}
	})
}

// stuck is a Dialer that doesn't return until the test is over.
type stuck struct{ called, over chan struct{} }

func (s stuck) Dial(context.Context, fwd.PodRef, uint16) (fwd.Stream, error) {
	close(s.called)
	<-s.over
	return nil, errors.New("too late")
}

// A connection that doesn't end doesn't keep the engine from ending, nor the
// machine from being restored.
func TestEngineEndsInSpiteOfAStuckDialer(t *testing.T) {
	dialer := stuck{make(chan struct{}), make(chan struct{})}
	defer close(dialer.over)
	at, _, stop := forwarding(t, dialer, service("web", "a"))
	conn, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	<-dialer.called
	if err := stop(); err == nil || !strings.Contains(err.Error(), "don't end") {
		t.Errorf("Run says %v", err)
	}
}

// The end of abort cuts the draining short.
func TestEngineAbort(t *testing.T) {
	finish := make(chan struct{})
	pod := serve(t, func(*net.TCPConn) { <-finish })
	h, s := newHost(), newSource()
	log, _ := test.NewNullLogger()
	ports := listen.NewEach()
	addresses, err := loopback.NewPool(loopback.DefaultPrefix)
	if err != nil {
		t.Fatal(err)
	}
	e := &fwd.Engine{Source: s, Dialer: pods{"a": pod}, Addresses: addresses, Aliases: fakeAliases{h}, Names: fakeNames{h}, Ports: ports, Log: log}
	svc := service("web", "a")
	svc.Ports[0].Number = freePort(t)
	s.set(svc)
	ctx, cancel := context.WithCancel(context.Background())
	abort, cutShort := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx, abort) }()
	h.eventually(t, func() bool { return strings.Contains(h.String(), "web.ns") })
	conn, err := net.Dial("tcp", netip.AddrPortFrom(h.addresses()[0], svc.Ports[0].Number).String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cutShort()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	close(finish)
	if got := h.String(); got != "" {
		t.Errorf("the host still has:\n%s", got)
	}
}
