package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/internal/controlserver"
	"github.com/kubeshore/kubeshore/pkg/control"
)

func TestBytesText(t *testing.T) {
	for n, want := range map[uint64]string{0: "0B", 999: "999B", 1000: "1.0kB", 9949: "9.9kB", 9999: "10kB", 999_499: "999kB", 999_999: "1.0MB", 1_500_000_000: "1.5GB", 2_000_000_000_000_000_000: "2000PB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

const psWant = `PROBLEMS
the API server of context eu can't be reached
SERVICE     ADDRESS     PORTS   PODS  CONNS  TRAFFIC      STATE
db.data     127.64.0.2  5432    0/2   0      -            waiting: no pod is ready
old.shop    -           -       0/0   0      -            failed: it has no port that can be forwarded

READY
SERVICE     ADDRESS     PORTS   PODS  CONNS  TRAFFIC      STATE
alias.shop  = web.shop  -       -     0      -            ready
mine.shop   127.0.0.1   80      -     0      -            ready: runs on this machine
web.shop    127.64.0.1  80,443  2/2   3      ↑10B ↓2.0kB  ready

SKIPPED
SERVICE     ADDRESS     PORTS   PODS  CONNS  TRAFFIC      STATE
mail.shop   -           -       0/0   0      -            skipped: it stands for example.com, outside the cluster; nothing to forward
`

func TestPs(t *testing.T) {
	status := control.Status{
		Overview: control.Overview{Synced: true, Contexts: []control.Context{{Name: "dev"}, {Name: "eu", Problems: []string{"the API server of context eu can't be reached"}}}},
		Services: []control.Service{
			{Name: "db.data", Address: "127.64.0.2", Ports: []control.Port{{Port: 5432}}, Pods: 2, State: control.Waiting, Reason: "no pod is ready"},
			{Name: "alias.shop", AliasOf: "web.shop", State: control.Ready},
			{Name: "mine.shop", Address: "127.0.0.1", Local: true, Ports: []control.Port{{Port: 80}}, State: control.Ready},
			{Name: "mail.shop", State: control.Skipped, Reason: "it stands for example.com, outside the cluster; nothing to forward"},
			{Name: "old.shop", State: control.Failed, Reason: "it has no port that can be forwarded"},
			{
				Name: "web.shop", Address: "127.64.0.1", Ports: []control.Port{{Port: 80}, {Port: 443}}, ReadyPods: 2, Pods: 2, State: control.Ready,
				Connections: 3, BytesUp: 10, BytesDown: 2000, Names: []string{"web.shop", "web"},
			},
		},
	}
	var b strings.Builder
	if err := writeStatus(&b, status, ""); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); got != psWant {
		t.Errorf("it says\n%s\nwant\n%s", got, psWant)
	}
	for format, want := range map[string]string{
		"name": "db.data\nalias.shop\nmine.shop\nmail.shop\nold.shop\nweb.shop\n", "wide": "web.shop,web", "json": `"name": "web.shop"`, "yaml": "name: web.shop",
	} {
		b.Reset()
		if err := writeStatus(&b, status, format); err != nil || !strings.Contains(b.String(), want) {
			t.Errorf("%s: %s, %v", format, b.String(), err)
		}
	}
}

// daemon is a control.Daemon whose status the test says.
type daemon struct {
	controlserver.Daemon
	mu      sync.Mutex
	status  control.Status
	changed chan struct{}
}

func (d *daemon) Status() control.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status
}

func (d *daemon) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

func (d *daemon) set(status control.Status) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status = status
	close(d.changed)
	d.changed = make(chan struct{})
}

// serve serves a daemon until ended is called, or the test is over.
func serve(t *testing.T, d *daemon) (client *control.Client, end func()) {
	t.Helper()
	l, folder := listenAlone(t)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	s := &controlserver.Server{Version: "v1", Daemon: d, Journal: new(controlserver.Journal)}
	go func() { ended <- s.Serve(ctx, l) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	return control.NewClient(folder), end
}

// output is what a command has written so far.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// await waits until the output ends with text, and empties it.
func (o *output) await(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !strings.HasSuffix(o.String(), text); {
		if time.Now().After(deadline) {
			t.Fatalf("it says\n%s\nwant, at the end,\n%s", o, text)
		}
		<-time.After(time.Millisecond)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b.Reset()
}

// ps --watch goes on with a row for each service that comes or changes, and a line for
// what goes and for what is wrong with a cluster, until the daemon ends.
func TestPsWatch(t *testing.T) {
	web := control.Service{Name: "web.shop", Service: "web", Namespace: "shop", Address: "127.64.0.1", Ports: []control.Port{{Port: 80}}, ReadyPods: 1, Pods: 1, State: control.Ready}
	d := &daemon{status: control.Status{Overview: control.Overview{Synced: true, Contexts: []control.Context{{Name: "dev"}}}, Services: []control.Service{web}}, changed: make(chan struct{})}
	client, end := serve(t, d)
	web.Names = []string{"web.shop.svc.cluster.local", "web.shop"}
	d.status.Services[0].Names = web.Names
	var table, names, one output
	ended := make(chan error, 3)
	go func() {
		ended <- ps(t.Context(), client, &one, choice{services: []string{"web.shop.svc.cluster.local"}, namespaces: []string{"shop"}}, "", true)
	}()
	go func() { ended <- ps(t.Context(), client, &table, choice{}, "", true) }()
	go func() { ended <- ps(t.Context(), client, &names, choice{services: []string{"web"}}, "name", true) }()
	table.await(t, "SERVICE   ADDRESS     PORTS  PODS  CONNS  TRAFFIC  STATE\nweb.shop  127.64.0.1  80     1/1   0      -        ready\n")
	names.await(t, "web.shop\n")
	one.await(t, "ready\n")

	web.Names = nil // it has none as long as nothing answers
	web.State, web.Reason, web.ReadyPods = control.Waiting, "no pod is ready", 0
	d.set(control.Status{
		Overview: control.Overview{Synced: true, Contexts: []control.Context{{Name: "dev", Problems: []string{"may not list services"}}}}, Services: []control.Service{web},
	})
	one.await(t, "web.shop  127.64.0.1  80     0/1   0      -        waiting: no pod is ready\n")
	table.await(t, "problem: may not list services\nweb.shop  127.64.0.1  80     0/1   0      -        waiting: no pod is ready\n")
	names.await(t, "web.shop\n")

	d.set(control.Status{Overview: control.Overview{Synced: true, Contexts: []control.Context{{Name: "dev", Namespaces: []string{"data"}, Reading: []string{"data"}}}}})
	table.await(t, "solved: may not list services\nnamespace data of context dev is still being read\nweb.shop  is gone\n")

	d.set(control.Status{Overview: control.Overview{Synced: true, Stopping: true, Contexts: []control.Context{{Name: "dev", Namespaces: []string{"data"}}}}})
	table.await(t, "it is just ending: namespace data of context dev\n")

	end()
	one.await(t, "it is just ending: namespace data of context dev\n")
	for range 3 {
		if err := <-ended; !errors.Is(err, errEnded) {
			t.Errorf("at the daemon's end: %v", err)
		}
	}
	if names.String() != "" {
		t.Errorf("names has %q", names.String())
	}
}
