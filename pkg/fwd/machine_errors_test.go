package fwd_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus/hooks/test"

	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/listen"
	"github.com/kubeshore/kubeshore/pkg/loopback"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// A host whose ports can't be bound has no name, and one problem if the reason is
// the same. The ports are retried.
func TestEnginePortError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := newHost(), newSource()
		h.inUse = true
		e := &fwd.Engine{Source: s, Aliases: fakeAliases{h}, Names: fakeNames{h}, Ports: fakePorts{h, make(chan struct{})}}
		start(t, e)
		svc := service("web", "a")
		svc.Ports = append(svc.Ports, plan.ServicePort{Protocol: "TCP", Number: 81})
		s.set(svc)
		synctest.Wait()
		web := e.Status().Hosts[0]
		if len(web.Names) > 0 || len(web.Ports) != 2 || web.Ports[1].Err == nil || web.Ports[0].Err == nil || len(web.Problems) != 1 || strings.Contains(h.String(), "web") {
			t.Errorf("got status %+v on\n%s", web, h)
		}
		h.mu.Lock()
		h.inUse = false
		h.mu.Unlock()
		h.eventually(t, func() bool { return strings.Contains(h.String(), "web.ns ") })
		synctest.Wait()
		if web = e.Status().Hosts[0]; len(web.Problems) > 0 || web.Ports[0].Err != nil {
			t.Errorf("got status %+v", web)
		}
	})
}

// A refused name is a problem. The other names are in force.
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
			t.Errorf("got status %+v", web)
		}
		h.mu.Lock()
		h.taken = ""
		h.mu.Unlock()
		<-time.After(6 * time.Second) // until the retry, in the bubble's time
		synctest.Wait()
		if web = e.Status().Hosts[0]; len(web.Names) != 4 || len(web.Problems) > 0 {
			t.Errorf("got status %+v", web)
		}
	})
}

// stuckDialer is a Dialer that doesn't return until the test is over.
type stuckDialer struct {
	fwd.Dialer
	called, over chan struct{}
}

func (s stuckDialer) Dial(context.Context, plan.PodRef, uint16) (fwd.Stream, error) {
	close(s.called)
	<-s.over
	return nil, errors.New("too late")
}

// A connection that doesn't end prevents neither the end of Run nor the
// restoration of the machine.
func TestEngineStopsDespiteStuckDialer(t *testing.T) {
	dialer := stuckDialer{called: make(chan struct{}), over: make(chan struct{})}
	defer close(dialer.over)
	at, _, stop := forwarding(t, dialer, service("web", "a"))
	conn, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	<-dialer.called
	if err := stop(); err == nil || !strings.Contains(err.Error(), "still open") {
		t.Errorf("Run: got %v, want an error about open connections", err)
	}
}

// The end of abort ends draining early.
func TestEngineAbort(t *testing.T) {
	finish := make(chan struct{})
	pod := serve(t, func(*net.TCPConn) { <-finish })
	h, s := newHost(), newSource()
	log, _ := test.NewNullLogger()
	ports := listen.New(listen.NewEach("test"))
	addresses, err := loopback.NewPool([]netip.Prefix{loopback.DefaultPrefix}, "me", nil)
	if err != nil {
		t.Fatal(err)
	}
	e := &fwd.Engine{Source: s, Dialer: tcpPods{"a": pod}, Addresses: addresses, Aliases: fakeAliases{h}, Names: fakeNames{h}, Ports: ports, Log: log, Options: options}
	svc := service("web", "a")
	svc.Ports[0].Number = freePort(t)
	s.set(svc)
	ctx, cancel := context.WithCancel(context.Background())
	abort, abortDrain := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx, abort) }()
	h.eventually(t, func() bool { return strings.Contains(h.String(), "web.ns") })
	conn, err := net.Dial("tcp", netip.AddrPortFrom(h.addresses()[0], svc.Ports[0].Number).String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	abortDrain()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	close(finish)
	if got := h.String(); got != "" {
		t.Errorf("the machine still has:\n%s", got)
	}
}

// While this machine can't be changed, the status has a problem, and the names and
// hosts that are in force. It recovers without a change in the cluster.
func TestEngineMachineFailsLater(t *testing.T) {
	for name, fail := range map[string]func(*host, error){
		"names":   func(h *host, err error) { h.namesErr = err },
		"aliases": func(h *host, err error) { h.aliasesErr = err },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, s := newHost(), newSource()
				e := &fwd.Engine{Source: s, Aliases: fakeAliases{h}, Names: fakeNames{h}, Ports: fakePorts{h, make(chan struct{})}}
				stop := start(t, e)
				set := func(err error) {
					h.mu.Lock()
					defer h.mu.Unlock()
					fail(h, err)
				}
				s.set(service("api", "a"), service("web", "a"))
				synctest.Wait()
				set(errors.Join(errors.New("a"), errors.New("read-only file system")))
				changed := e.Changed()
				s.set(service("db", "a"), service("web", "a", "b"))
				<-changed
				status := e.Status()
				if len(status.Problems) != 1 || !strings.HasSuffix(status.Problems[0], "a; read-only file system; retrying every 5s") {
					t.Errorf("got problems %q, want one with the error", status.Problems)
				}
				if len(status.Hosts) != 1 || status.Hosts[0].Pods != 2 || len(status.Hosts[0].Names) != 4 {
					t.Errorf("got hosts %+v, want web alone, with two pods and its names", status.Hosts)
				}
				<-time.After(time.Minute) // several retries, in the bubble's time
				if got := e.Status().Hosts; len(got) != 1 {
					t.Errorf("after retries: got hosts %+v, want one", got)
				}
				set(nil)
				<-time.After(6 * time.Second)
				synctest.Wait()
				if status = e.Status(); len(status.Problems) > 0 || len(status.Hosts) != 2 || len(status.Hosts[0].Names) != 4 {
					t.Errorf("recovered: got problems %q and hosts %+v, want none and two", status.Problems, status.Hosts)
				}
				if err := stop(); err != nil {
					t.Error(err)
				}
				for _, broken := range h.broken {
					t.Error(broken)
				}
			})
		})
	}
}
