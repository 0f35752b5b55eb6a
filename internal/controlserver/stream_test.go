package controlserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/pkg/control"
)

func manyServices(n int) []control.Service {
	many := make([]control.Service, n)
	for i := range many {
		many[i] = service(fmt.Sprintf("web-%d", i), control.Ready)
		many[i].Ports = []control.Port{{Port: 80}}
	}
	return many
}

// requestUnread sends a request, and reads only the start of the response.
func requestUnread(t *testing.T, network, address, path string) net.Conn {
	t.Helper()
	conn, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(4096)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 12)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// waitUntilClosed waits until the server has closed a connection.
func waitUntilClosed(t *testing.T, conn net.Conn, path string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if _, err := conn.Write([]byte("\n")); err != nil {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Errorf("%s: the connection is still open", path)
}

func TestStalledReadersAreDisconnectedAndBlockNobody(t *testing.T) {
	many := manyServices(500)
	d := newFakeDaemon(slices.Clone(many)...)
	c, s, dir := serve(t, d, 2*time.Second) // enough for the active reader, even on a busy machine
	conns := make(map[net.Conn]string)
	for i := range 50 {
		path := []string{"/v1/events", "/v1/log?follow=true"}[i%2]
		conns[requestUnread(t, "unix", control.SocketPath(dir), path)] = path
	}
	seen := make(chan error, 1)
	go func() {
		seen <- c.Events(t.Context(), func(e control.Event) error {
			if e.Service != nil && e.Service.State == control.Failed {
				return errSeen
			}
			return nil
		})
	}()
	for round := range 40 {
		for i := range many {
			many[i].TotalConnections = uint64(round)
		}
		d.set(slices.Clone(many)...)
		fmt.Fprintf(s.Journal, "%s\n", strings.Repeat("x", 100<<10))
		if _, err := c.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	last := slices.Clone(many)
	last[0].State = control.Failed
	d.set(last...)
	select {
	case err := <-seen:
		if !errors.Is(err, errSeen) {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the active reader got no event of the last change")
	}
	for conn, path := range conns {
		waitUntilClosed(t, conn, path)
	}
}

func TestSlowReadersReachTheLastState(t *testing.T) {
	many := manyServices(100)
	d := newFakeDaemon(slices.Clone(many)...)
	c, _, _ := serve(t, d)
	var reading, started sync.WaitGroup
	for range 50 {
		started.Add(1)
		reading.Go(func() {
			var status control.Status
			err := c.Events(t.Context(), func(e control.Event) error {
				if e.Status != nil {
					started.Done()
				}
				status.Apply(e)
				if !e.More && status.Stopping {
					return errSeen
				}
				<-time.After(time.Millisecond)
				return nil
			})
			if !errors.Is(err, errSeen) {
				t.Error(err)
			}
			slices.SortFunc(status.Services, func(a, b control.Service) int { return strings.Compare(a.Name, b.Name) })
			if want := d.Status(); !reflect.DeepEqual(status.Services, want.Services) {
				t.Errorf("got %d services in the end, want the %d services of the daemon", len(status.Services), len(want.Services))
			}
		})
	}
	started.Wait()
	for round := range 40 {
		now := slices.Clone(many[round%7 : 100-round])
		for i := range now {
			now[i].TotalConnections = uint64(round)
		}
		slices.SortFunc(now, func(a, b control.Service) int { return strings.Compare(a.Name, b.Name) })
		d.mu.Lock()
		d.status.Stopping = round == 39
		d.mu.Unlock()
		d.set(now...)
		<-time.After(time.Millisecond)
	}
	reading.Wait()
}

// The write timeout applies on the socket and on TCP, but not to idle connections.
func TestStalledMetricsReadersAreDisconnected(t *testing.T) {
	d := newFakeDaemon(manyServices(3000)...)
	const timeout = time.Second
	_, _, dir := serve(t, d, timeout)
	waitUntilClosed(t, requestUnread(t, "unix", control.SocketPath(dir), "/metrics"), "metrics")
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	served := make(chan error, 1)
	go func() {
		served <- serveMetrics(ctx, writeTimeoutListener{tcp, timeout}, "", NewMetrics("v1", d.Status).Handler())
	}()
	waitUntilClosed(t, requestUnread(t, "tcp", tcp.Addr().String(), "/metrics"), "metrics over TCP")
	cancel()
	if err := <-served; err != nil {
		t.Errorf("serveMetrics: %v", err)
	}
	conn, err := net.Dial("unix", control.SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	for range 2 {
		_, _ = io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("on a connection that was idle: got %s, %v", resp.Status, err)
		}
		_ = resp.Body.Close()
		<-time.After(timeout + timeout/10)
	}
}

func TestStreamReportsWhyItEnded(t *testing.T) {
	d := newFakeDaemon()
	c, s, _ := serve(t, d)
	r, w := io.Pipe()
	logged := make(chan error, 1)
	go func() { logged <- c.Log(t.Context(), w, -1, true) }()
	fmt.Fprintln(s.Journal, "first")
	if _, err := io.ReadFull(r, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	for range 5 * maxJournalLag {
		fmt.Fprintln(s.Journal, strings.Repeat("x", 100))
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	if err := <-logged; !errors.Is(err, control.ErrBehind) {
		t.Errorf("slow reader of the log: got error %v, want %v", err, control.ErrBehind)
	}
	_ = w.Close()

	for name, want := range map[string]error{"server exited": control.ErrDied, "server closed the connection": control.ErrBehind} {
		t.Run(name, func(t *testing.T) {
			l, dir := listenInTempDir(t)
			var broken sync.Once
			handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				broken.Do(func() {
					_, _ = io.WriteString(newStream(w, "text/event-stream"), "data: {}\n\n")
					if errors.Is(want, control.ErrDied) {
						_ = l.Close()
					}
					panic(http.ErrAbortHandler)
				})
			})
			server := &http.Server{Handler: handler}
			go func() { _ = server.Serve(l) }()
			t.Cleanup(func() { _ = server.Close() })
			events := 0
			if err := control.NewClient(dir).Events(t.Context(), func(control.Event) error { events++; return nil }); !errors.Is(err, want) || events != 1 {
				t.Errorf("got error %v after %d events, want %v after 1", err, events, want)
			}
		})
	}
}

func TestServicesWithTheSameNameAreDistinct(t *testing.T) {
	pod, other := service("shop", control.Ready), service("web", control.Ready)
	pod.Name, pod.Namespace, pod.Pod, pod.Names = "web.shop.eu", "eu", "web", nil
	other.Name, other.Context, other.Names = "web.shop.eu", "eu", []string{"web.shop.eu"}
	both := control.Status{Services: []control.Service{pod, other}}
	if events := changes(both, both); len(events) > 0 {
		t.Errorf("got %d events without a change", len(events))
	}
	events := changes(both, control.Status{Services: []control.Service{other}})
	if len(events) != 1 || events[0].Gone == nil || *events[0].Gone != pod.ID() || events[0].More {
		t.Errorf("got events %+v", events)
	}
	for _, e := range events {
		both.Apply(e)
	}
	if len(both.Services) != 1 || both.Services[0].Context != "eu" {
		t.Errorf("got services %+v, want only the one of context eu", both.Services)
	}
	if s, ok := control.Find([]control.Service{pod, other}, "web.shop.eu"); !ok || s.Context != "eu" {
		t.Errorf("the name leads to %+v, want the service of context eu", s)
	}
}

func TestEventsCoverTheWholeStatus(t *testing.T) {
	before := control.Status{Overview: control.Overview{Synced: true}, Services: []control.Service{service("web", control.Ready)}}
	now := control.Status{Overview: control.Overview{Synced: true, Stopping: true, UpstreamConnections: 2}, Services: []control.Service{service("web", control.Waiting)}}
	events := changes(before, now)
	if len(events) != 2 || events[0].Overview == nil || !events[0].More || events[1].Service == nil || events[1].More {
		t.Errorf("got events %+v", events)
	}
	for _, e := range events {
		before.Apply(e)
	}
	if !reflect.DeepEqual(before, now) {
		t.Errorf("after the events: got %+v, want %+v", before, now)
	}
}

func TestNoNamespacesAreAddedDuringShutdown(t *testing.T) {
	d := newFakeDaemon()
	d.status.Stopping = true
	c, _, _ := serve(t, d)
	if _, err := c.AddNamespaces(t.Context(), control.NamespaceChange{Namespaces: []string{"a"}}); err == nil || err.Error() != "shutting down" {
		t.Errorf("got error %v, want shutting down", err)
	}
}
