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

	"github.com/kubeshore/kubeshore/pkg/control"
)

// fakeDaemon is a Daemon whose status the test says.
type fakeDaemon struct {
	mu       sync.Mutex
	status   control.Status
	changed  chan struct{}
	stopped  chan struct{}
	requests []string
}

func newFakeDaemon(services ...control.Service) *fakeDaemon {
	return &fakeDaemon{
		status: control.Status{
			Overview: control.Overview{Version: "v1", PID: 7, Synced: true, Contexts: []control.Context{{Name: "dev", Namespaces: []string{"shop"}}}},
			Services: services,
		},
		changed: make(chan struct{}), stopped: make(chan struct{}, 9),
	}
}

func (d *fakeDaemon) Status() control.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status
}

func (d *fakeDaemon) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

func (d *fakeDaemon) set(services ...control.Service) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status.Services = services
	close(d.changed)
	d.changed = make(chan struct{})
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

func (d *fakeDaemon) Stop() { d.stopped <- struct{}{} }

func service(name string, state control.State) control.Service {
	return control.Service{Name: name + ".shop", Service: name, Namespace: "shop", Context: "dev", State: state, Names: []string{name + ".shop", name}}
}

// listenInTempFolder listens in a folder of its own.
func listenInTempFolder(t *testing.T) (*Socket, string) {
	t.Helper()
	folder := shortFolder(t)
	l, err := Listen(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	return l, folder
}

// serve serves a daemon until the test is over. Readers have the time that is given, or
// else the usual.
func serve(t *testing.T, d *fakeDaemon, writeTime ...time.Duration) (*control.Client, *Server, string) {
	t.Helper()
	l, folder := listenInTempFolder(t)
	s := &Server{Version: "v1", Daemon: d, Journal: new(Journal), Metrics: NewMetrics("v1", d.Status).Handler()}
	for _, limit := range writeTime {
		s.chunkWriteTimeout = limit
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(control.SocketPath(folder)); err == nil {
			t.Error("the socket is left")
		}
	})
	return control.NewClient(filepath.Join(folder, "nothing here"), folder), s, folder
}

func TestClientAsks(t *testing.T) {
	d := newFakeDaemon(service("web", control.Ready), service("db", control.Waiting))
	c, _, _ := serve(t, d)
	ctx := t.Context()
	if status, err := c.Status(ctx); err != nil || status.PID != 7 || len(status.Services) != 2 {
		t.Errorf("%+v, %v", status, err)
	}
	for _, name := range []string{"web", "web.shop", "WEB.shop."} {
		if s, err := c.Service(ctx, name); err != nil || s.Name != "web.shop" {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	if _, err := c.Service(ctx, "nope"); err == nil || !strings.Contains(err.Error(), `no service is called "nope"`) {
		t.Error(err)
	}
	if r, err := c.Ready(ctx); err != nil || r.Ready || len(r.Waiting) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := c.Ready(ctx, "web"); err != nil || !r.Ready {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := c.Ready(ctx, "web", "other"); err != nil || r.Ready || len(r.Unknown) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := c.AddNamespaces(ctx, control.NamespaceChange{Namespaces: []string{"data"}}); err != nil {
		t.Error(err)
	}
	if _, err := c.AddNamespaces(ctx, control.NamespaceChange{}); err == nil || err.Error() != "namespaces: name one at least" {
		t.Error(err)
	}
	if _, err := c.RemoveNamespaces(ctx, control.NamespaceChange{Context: "dev", Namespaces: []string{"data"}}); err != nil {
		t.Error(err)
	}
	if got, want := strings.Join(d.requests, ", "), "add {Context: Namespaces:[data]}, remove {Context:dev Namespaces:[data]}"; got != want {
		t.Errorf("it was asked %s, want %s", got, want)
	}
	if status, err := c.Stop(ctx); err != nil || !status.Stopping {
		t.Errorf("%+v, %v", status, err)
	}
	<-d.stopped
}

// errSeen ends a stream of events.
var errSeen = errors.New("seen")

func TestEvents(t *testing.T) {
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
		t.Error(err)
	}
	if got, want := strings.Join(got, ", "), "status, ready web.shop, ready db.shop, gone web.shop"; got != want {
		t.Errorf("events %s, want %s", got, want)
	}
}

// Traffic is heard of by itself.
func TestEventsOfTraffic(t *testing.T) {
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
		t.Error(err)
	}
}

func TestJournal(t *testing.T) {
	var j Journal
	for i := range 5 {
		fmt.Fprintf(&j, "line %d\n", i)
	}
	var b bytes.Buffer
	if err := j.CopyTo(t.Context(), &b, 2, false); err != nil || b.String() != "line 3\nline 4\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
	for range 3 * journalSize / 1000 {
		_, _ = j.Write(bytes.Repeat([]byte("x"), 1000))
	}
	b.Reset()
	if err := j.CopyTo(t.Context(), &b, -1, false); err != nil || b.Len() > journalSize || b.Len() < journalSize-1000 {
		t.Errorf("it keeps %d bytes, %v", b.Len(), err)
	}
}

// What was written before the end is read, too.
func TestJournalToTheEnd(t *testing.T) {
	for range 50 {
		var j Journal
		r, w := io.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- errors.Join(j.CopyTo(ctx, w, 0, true), w.Close()) }()
		if _, err := r.Read(nil); err != nil { // it listens
			t.Fatal(err)
		}
		fmt.Fprintln(&j, "everything is taken back")
		cancel()
		text, err := io.ReadAll(r)
		if err := errors.Join(err, <-ended); err != nil || string(text) != "everything is taken back\n" {
			t.Fatalf("it says %q, %v", text, err)
		}
	}
}

func TestLogIsFollowed(t *testing.T) {
	d := newFakeDaemon()
	c, s, _ := serve(t, d)
	fmt.Fprintln(s.Journal, "before")
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Log(ctx, w, -1, true) }()
	buffer := make([]byte, 100)
	if n, err := r.Read(buffer); err != nil || string(buffer[:n]) != "before\n" {
		t.Errorf("%q, %v", buffer[:n], err)
	}
	fmt.Fprintln(s.Journal, "after")
	if n, err := r.Read(buffer); err != nil || string(buffer[:n]) != "after\n" {
		t.Errorf("%q, %v", buffer[:n], err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// change is a request to follow more.
func change(body string) string {
	return fmt.Sprintf("POST /v1/namespaces/add HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

func TestHostileRequests(t *testing.T) {
	d := newFakeDaemon()
	_, _, folder := serve(t, d)
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
		{change(`{"namespaces": []}`), "400"},
		{change(`{"namespaces": ["a", "A"]}`), "400"},
		{change(`{"namespaces": ["a.b"]}`), "400"},
		{change(`{"namespaces": ["` + strings.Repeat("a", 64) + `"]}`), "400"},
		{change(`{"namespaces": ["a"], "later": true}`), "200"},
		{"GET /v1/status HTTP/1.1\r\nX: " + strings.Repeat("y", 200<<10) + "\r\n\r\n", "431"},
		{"rubbish\r\n\r\n", "400"},
	} {
		conn, err := net.Dial("unix", control.SocketPath(folder))
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.WriteString(conn, c.request) }()
		answer := make([]byte, 12)
		if _, err := io.ReadFull(conn, answer); err != nil || string(answer[9:]) != c.status {
			t.Errorf("%.40q: %q, %v; want %s", c.request, answer, err, c.status)
		}
		_ = conn.Close()
	}
	if len(d.stopped) > 0 {
		t.Error("it was stopped")
	}
}
