package fwd_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sirupsen/logrus/hooks/test"

	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/loopback"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

func TestEngineAppliesAndRestores(t *testing.T) {
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
		t.Errorf("after Run, the machine still has:\n%s", got)
	}
	for _, broken := range h.broken {
		t.Error(broken)
	}
	logged := make([]string, 0, 4)
	for _, entry := range lines.AllEntries() {
		fields := strings.Fields(entry.Message)
		logged = append(logged, strings.Join(fields[:min(2, len(fields))], " "))
	}
	if want := []string{"+ web.ns", "+ other.ns", "- web.ns"}; !slices.Equal(logged, want) {
		t.Errorf("got log %q, want %q", logged, want)
	}
}

// A random walk of cluster states: at no moment does a name resolve to an address
// without our ports, and the last state is reached.
func TestEngineRandomWalk(t *testing.T) {
	h, s := newHost(), newSource()
	stop := start(t, &fwd.Engine{Source: s, Aliases: fakeAliases{h}, Names: fakeNames{h}, Ports: fakePorts{h, make(chan struct{})}})
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for range 30 {
		var services []plan.Service
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
			continue // the next change follows immediately
		}
		h.eventually(t, func() bool { return strings.Count(h.String(), "svc.cluster.local") == want })
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if got := h.String(); got != "" {
		t.Errorf("seed %d: after Run, the machine still has:\n%s", seed, got)
	}
	for _, broken := range h.broken {
		t.Errorf("seed %d: %s", seed, broken)
	}
}

func TestEngineNamesError(t *testing.T) {
	full := errors.New("no space left on device")
	t.Run("the first error is final", func(t *testing.T) {
		h, s := newHost(), newSource()
		h.refuse = full
		e := &fwd.Engine{Source: s, Aliases: fakeAliases{h}, Names: fakeNames{h}, Ports: fakePorts{h, make(chan struct{})}}
		s.set(service("web", "a"))
		log, _ := test.NewNullLogger()
		e.Log, e.Options = log, options
		e.Addresses, _ = loopback.NewPool([]netip.Prefix{loopback.DefaultPrefix}, "me", nil)
		if err := e.Run(t.Context(), t.Context()); !errors.Is(err, full) {
			t.Errorf("Run: %v, want %v", err, full)
		}
		if got := h.String(); got != "" {
			t.Errorf("the machine has:\n%s", got)
		}
	})
	t.Run("after a later error, hosts with names keep their ports", func(t *testing.T) {
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
