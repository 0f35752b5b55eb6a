package fwd_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus/hooks/test"

	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/loopback"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// host is a fake machine that keeps its state in memory. It records every moment
// at which a name resolves to an address or port that isn't ours.
type host struct {
	mu      sync.Mutex
	aliases []netip.Addr
	ports   []netip.AddrPort
	names   map[netip.Addr][]string
	broken  []string
	refuse  error  // of the next Names.Set
	taken   string // a name that is refused
	inUse   bool   // all ports are in use
	// namesErr and aliasesErr are the errors of all calls of Names.Set and Aliases.Set.
	namesErr, aliasesErr error
	changed              chan struct{}
}

func newHost() *host { return &host{changed: make(chan struct{}, 1)} }

// checkLocked checks the state after a change. mu must be held.
func (h *host) checkLocked(after string) {
	for addr := range h.names {
		if !slices.Contains(h.aliases, addr) {
			h.broken = append(h.broken, fmt.Sprintf("after %s: %v has a name but isn't one of our addresses", after, addr))
		}
		if !slices.ContainsFunc(h.ports, func(p netip.AddrPort) bool { return p.Addr() == addr }) {
			h.broken = append(h.broken, fmt.Sprintf("after %s: %v has a name but no port", after, addr))
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

// String returns the machine's state, one line per address.
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
	if f.aliasesErr != nil {
		return f.aliasesErr
	}
	f.aliases = slices.Clone(addrs)
	f.checkLocked("Aliases.Set")
	return nil
}

type fakeNames struct{ *host }

func (f fakeNames) Changed() <-chan struct{} { return nil }

func (f fakeNames) Set(_ context.Context, table map[netip.Addr][]string) (map[string]error, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.refuse; err != nil {
		f.refuse = nil
		return nil, err
	}
	if f.namesErr != nil {
		return nil, f.namesErr
	}
	f.names = maps.Clone(table)
	f.checkLocked("Names.Set")
	if f.taken != "" {
		return map[string]error{f.taken: errors.New("already in use")}, nil
	}
	return nil, nil
}

type fakePorts struct {
	*host
	closed chan struct{}
}

func (f fakePorts) How() string { return "a fake" }

func (f fakePorts) Set(_ context.Context, want []netip.AddrPort) map[netip.AddrPort]error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.inUse {
		errs := make(map[netip.AddrPort]error)
		for _, at := range want {
			errs[at] = errors.New("in use")
		}
		return errs
	}
	f.ports = slices.Clone(want)
	f.checkLocked("Ports.Set")
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

// source is a Source whose snapshot the test sets.
type source struct {
	mu       sync.Mutex
	snapshot plan.Snapshot
	changed  chan struct{}
}

func newSource() *source { return &source{changed: make(chan struct{}, 1)} }

func (s *source) set(services ...plan.Service) {
	s.mu.Lock()
	s.snapshot = plan.Snapshot{Services: services}
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *source) Changed() <-chan struct{} { return s.changed }

func (s *source) Snapshot() plan.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.snapshot
}

// service returns a Service with port 80 and the given pods, all ready.
func service(name string, pods ...string) plan.Service {
	svc := plan.Service{
		ID:    plan.ServiceID{Context: "c", Namespace: "ns", Name: name},
		Ports: []plan.ServicePort{{Protocol: "TCP", Number: 80}},
	}
	for _, pod := range pods {
		svc.Endpoints = append(svc.Endpoints, plan.Endpoint{
			Pod:   plan.PodRef{Context: "c", Namespace: "ns", Name: pod, UID: pod},
			Ready: true, Serving: true,
			Ports: map[string]uint16{"": 8080},
		})
	}
	return svc
}

// options gives the Services of namespace ns their bare names.
func options() plan.Options {
	return plan.Options{Contexts: []plan.ContextOptions{{Context: "c", Namespace: "ns"}}}
}

// start runs an engine until stop is called, which returns the result of Run, or
// until the test ends.
func start(t *testing.T, e *fwd.Engine) (stop func() error) {
	t.Helper()
	if e.Log == nil {
		log, _ := test.NewNullLogger()
		e.Log = log
	}
	pool, err := loopback.NewPool([]netip.Prefix{loopback.DefaultPrefix}, "me", nil)
	if err != nil {
		t.Fatal(err)
	}
	e.Addresses = pool
	e.Options = options
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

// eventually waits until the condition holds. It checks again whenever the host
// has changed.
func (h *host) eventually(t *testing.T, want func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !want() {
		select {
		case <-h.changed:
		case <-deadline:
			t.Fatalf("state not reached; the machine has:\n%s", h)
		}
	}
}
