package controlserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/internal/wake"
	"github.com/kubeshore/kubeshore/pkg/control"
)

// fakeDaemon is a Daemon whose status is set by the test.
type fakeDaemon struct {
	mu       sync.Mutex
	status   control.Status
	changed  wake.Broadcast
	stopped  chan struct{}
	requests []string
}

func newFakeDaemon(services ...control.Service) *fakeDaemon {
	return &fakeDaemon{
		status: control.Status{
			Overview: control.Overview{Version: "v1", PID: 7, Synced: true, Contexts: []control.Context{{Name: "dev", Namespaces: []string{"shop"}}}},
			Services: services,
		},
		stopped: make(chan struct{}, 9),
	}
}

func (d *fakeDaemon) Status() control.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status
}

func (d *fakeDaemon) Ready(_ context.Context, names []string) control.Readiness {
	return control.ReadinessOf(d.Status(), names)
}

func (d *fakeDaemon) Changed() <-chan struct{} { return d.changed.C() }

func (d *fakeDaemon) set(services ...control.Service) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status.Services = services
	d.changed.Fire()
}

func (d *fakeDaemon) AddNamespaces(c control.NamespaceChange) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.requests = append(d.requests, fmt.Sprintf("add %+v", c))
	return nil
}

func (d *fakeDaemon) RemoveNamespaces(c control.NamespaceChange) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.requests = append(d.requests, fmt.Sprintf("remove %+v", c))
	return nil
}

func (d *fakeDaemon) LogIn(l control.Login) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.requests = append(d.requests, fmt.Sprintf("%v with %d bytes", l, len(l.Token)))
	return nil
}

func (d *fakeDaemon) Stop() { d.stopped <- struct{}{} }

func service(name string, state control.State) control.Service {
	return control.Service{Name: name + ".shop", Service: name, Namespace: "shop", Context: "dev", State: state, Names: []string{name + ".shop", name}}
}

// listenInTempDir listens on a socket in a new temporary directory.
func listenInTempDir(t *testing.T) (*Socket, string) {
	t.Helper()
	dir := shortDir(t)
	l, err := Listen(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return l, dir
}

// serve serves a daemon until the test ends, with the default write timeout or the given one.
func serve(t *testing.T, d *fakeDaemon, writeTimeout ...time.Duration) (*control.Client, *Server, string) {
	t.Helper()
	l, dir := listenInTempDir(t)
	s := &Server{Version: "v1", Daemon: d, Journal: new(Journal), Metrics: NewMetrics("v1", d.Status).Handler()}
	for _, timeout := range writeTimeout {
		s.writeTimeout = timeout
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if _, err := os.Stat(control.SocketPath(dir)); err == nil {
			t.Error("the socket still exists after the end of Serve")
		}
	})
	return control.NewClient(filepath.Join(dir, "missing"), dir), s, dir
}

func TestClientRequests(t *testing.T) {
	d := newFakeDaemon(service("web", control.Ready), service("db", control.Waiting))
	c, _, _ := serve(t, d)
	ctx := t.Context()
	if status, err := c.Status(ctx); err != nil || status.PID != 7 || len(status.Services) != 2 {
		t.Errorf("Status: got %+v, %v; want pid 7 and 2 services", status, err)
	}
	for _, name := range []string{"web", "web.shop", "WEB.shop."} {
		if s, err := c.Service(ctx, name); err != nil || s.Name != "web.shop" {
			t.Errorf("Service(%q): got %+v, %v; want web.shop", name, s, err)
		}
	}
	if _, err := c.Service(ctx, "nope"); err == nil || !strings.Contains(err.Error(), `service "nope" is unknown`) {
		t.Errorf("Service of an unknown name: got error %v", err)
	}
	if r, err := c.Ready(ctx); err != nil || r.Ready || len(r.Waiting) != 1 {
		t.Errorf("Ready: got %+v, %v; want 1 waiting service", r, err)
	}
	if r, err := c.Ready(ctx, "web"); err != nil || !r.Ready {
		t.Errorf("Ready of web: got %+v, %v; want it ready", r, err)
	}
	if r, err := c.Ready(ctx, "web", "other"); err != nil || r.Ready || len(r.Unknown) != 1 {
		t.Errorf("Ready of an unknown name: got %+v, %v; want 1 unknown name", r, err)
	}
	if _, err := c.AddNamespaces(ctx, control.NamespaceChange{Namespaces: []string{"data"}}); err != nil {
		t.Error(err)
	}
	if _, err := c.AddNamespaces(ctx, control.NamespaceChange{}); err == nil || err.Error() != "namespaces must not be empty" {
		t.Errorf("AddNamespaces without namespaces: got error %v", err)
	}
	if _, err := c.RemoveNamespaces(ctx, control.NamespaceChange{Context: "dev", Namespaces: []string{"data"}}); err != nil {
		t.Error(err)
	}
	if got, want := strings.Join(d.requests, ", "), "add {Context: Namespaces:[data]}, remove {Context:dev Namespaces:[data]}"; got != want {
		t.Errorf("got requests %s, want %s", got, want)
	}
	if status, err := c.Stop(ctx); err != nil || !status.Stopping {
		t.Errorf("Stop: got %+v, %v; want it stopping", status, err)
	}
	<-d.stopped
}

// errSeen ends a stream of events when the expected one has arrived.
var errSeen = errors.New("seen")

func TestEventsReportChanges(t *testing.T) {
	d := newFakeDaemon(service("web", control.Waiting))
	c, _, _ := serve(t, d)
	var got []string
	err := c.Events(t.Context(), func(e control.Event) error {
		switch {
		case e.Status != nil:
			got = append(got, "status")
			d.set(service("web", control.Ready), service("db", control.Ready))
		case e.Service != nil:
			got = append(got, string(e.Service.State)+" "+e.Service.Name)
			if e.Service.Name == "db.shop" {
				d.set(service("db", control.Ready))
			}
		case e.Gone != nil:
			got = append(got, "gone "+e.Gone.Name)
			return errSeen
		}
		return nil
	})
	if !errors.Is(err, errSeen) {
		t.Errorf("Events: got error %v, want the handler's", err)
	}
	if got, want := strings.Join(got, ", "), "status, ready web.shop, ready db.shop, gone web.shop"; got != want {
		t.Errorf("got events %s, want %s", got, want)
	}
}

// Traffic is reported even though it doesn't fire Changed.
func TestEventsReportTraffic(t *testing.T) {
	web := service("web", control.Ready)
	d := newFakeDaemon(web)
	c, _, _ := serve(t, d)
	err := c.Events(t.Context(), func(e control.Event) error {
		if e.Service != nil && e.Service.BytesUp == 5 {
			return errSeen
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		web.BytesUp = 5
		d.status.Services = []control.Service{web}
		return nil
	})
	if !errors.Is(err, errSeen) {
		t.Errorf("Events: got error %v, want the handler's", err)
	}
}

func TestJournalKeepsTheLastLines(t *testing.T) {
	var j Journal
	for i := range 5 {
		fmt.Fprintf(&j, "line %d\n", i)
	}
	var b bytes.Buffer
	if err := j.CopyTo(t.Context(), &b, 2, false); err != nil || b.String() != "line 3\nline 4\n" {
		t.Errorf("last 2 lines: got %q, %v", b.String(), err)
	}
	for range 3 * journalSize / 1000 {
		_, _ = j.Write(bytes.Repeat([]byte("x"), 1000))
	}
	b.Reset()
	if err := j.CopyTo(t.Context(), &b, -1, false); err != nil || b.Len() > journalSize || b.Len() < journalSize-1000 {
		t.Errorf("got %d bytes, %v; want at most %d, and nearly that", b.Len(), err, journalSize)
	}
}

func TestJournalReaderGetsLinesWrittenBeforeTheEnd(t *testing.T) {
	for range 50 {
		var j Journal
		r, w := io.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		copied := make(chan error, 1)
		go func() { copied <- errors.Join(j.CopyTo(ctx, w, 0, true), w.Close()) }()
		if _, err := r.Read(nil); err != nil { // now CopyTo is subscribed
			t.Fatal(err)
		}
		fmt.Fprintln(&j, "cleaned up")
		cancel()
		text, err := io.ReadAll(r)
		if err := errors.Join(err, <-copied); err != nil || string(text) != "cleaned up\n" {
			t.Fatalf("got %q, %v; want the last line", text, err)
		}
	}
}

func TestLogFollowsNewLines(t *testing.T) {
	d := newFakeDaemon()
	c, s, _ := serve(t, d)
	fmt.Fprintln(s.Journal, "before")
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	logged := make(chan error, 1)
	go func() { logged <- c.Log(ctx, w, -1, true) }()
	buffer := make([]byte, 100)
	if n, err := r.Read(buffer); err != nil || string(buffer[:n]) != "before\n" {
		t.Errorf("got %q, %v; want the kept line", buffer[:n], err)
	}
	fmt.Fprintln(s.Journal, "after")
	if n, err := r.Read(buffer); err != nil || string(buffer[:n]) != "after\n" {
		t.Errorf("got %q, %v; want the new line", buffer[:n], err)
	}
	cancel()
	if err := <-logged; err != nil {
		t.Errorf("Log: %v", err)
	}
}

// A credential gets to the daemon. What is wrong with an invalid request isn't quoted.
func TestLogIn(t *testing.T) {
	d := newFakeDaemon()
	client, _, dir := serve(t, d)
	if _, err := client.LogIn(t.Context(), control.Login{Context: "dev", Server: "https://a", Token: "s3cr3t"}); err != nil {
		t.Fatal(err)
	}
	if want := "login to context dev with 6 bytes"; len(d.requests) != 1 || d.requests[0] != want {
		t.Errorf("requests: got %q, want %q", d.requests, want)
	}
	body := `{"token": ["s3cr3t"]}`
	conn, err := net.Dial("unix", control.SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /v1/login HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	resp, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(resp), "HTTP/1.1 400") || strings.Contains(string(resp), "s3cr3t") {
		t.Errorf("an invalid request: got %s, %v", resp, err)
	}
	_ = conn.Close()
}

// addRequest returns a raw request to add namespaces.
func addRequest(body string) string {
	return fmt.Sprintf("POST /v1/namespaces/add HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

func TestInvalidRequestsAreRejected(t *testing.T) {
	d := newFakeDaemon()
	_, _, dir := serve(t, d)
	for _, c := range []struct{ request, status string }{
		{"POST /v1/namespaces/add HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{\"x\": 1}\n", "400"},
		{"POST /v1/namespaces/add HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("[", 100000), "400"},
		{"GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		{"GET /v1/stop HTTP/1.1\r\nHost: x\r\n\r\n", "405"},
		{"PUT /v1/status HTTP/1.1\r\nHost: x\r\n\r\n", "405"},
		{"PUT /v1/services/web HTTP/1.1\r\nHost: x\r\n\r\n", "405"},
		{"GET /v1/log?tail=x HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
		{"GET /v1/log?tail=-1 HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
		{"GET /v1/log?follow=x HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
		{"GET /v1/log?follow=0 HTTP/1.1\r\nHost: x\r\n\r\n", "200"},
		{addRequest(`{"namespaces": []}`), "400"},
		{addRequest(`{"namespaces": ["a", "A"]}`), "400"},
		{addRequest(`{"namespaces": ["a.b"]}`), "400"},
		{addRequest(`{"namespaces": ["` + strings.Repeat("a", 64) + `"]}`), "400"},
		{addRequest(`{"namespaces": ["a"], "unknown": true}`), "200"},
		{"GET /v1/status HTTP/1.1\r\nX: " + strings.Repeat("y", 200<<10) + "\r\n\r\n", "431"},
		{"garbage\r\n\r\n", "400"},
	} {
		conn, err := net.Dial("unix", control.SocketPath(dir))
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.WriteString(conn, c.request) }()
		statusLine := make([]byte, 12)
		if _, err := io.ReadFull(conn, statusLine); err != nil || string(statusLine[9:]) != c.status {
			t.Errorf("%.40q: got %q, %v; want status %s", c.request, statusLine, err, c.status)
		}
		_ = conn.Close()
	}
	if len(d.stopped) > 0 {
		t.Error("one of the requests stopped the daemon")
	}
}
