package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/kubeshore/kubeshore/internal/controlserver/servertest"
	"github.com/kubeshore/kubeshore/internal/term/termtest"
	"github.com/kubeshore/kubeshore/pkg/control"
)

const psWant = `PROBLEMS
cannot reach the API server of context eu
SERVICE     ADDRESS     PORTS   PODS  CONNS  TRAFFIC      STATE
db.data     127.64.0.2  5432    0/2   0      -            waiting: no pod is ready
old.shop    -           -       0/0   0      -            failed: no port can be forwarded

READY
SERVICE     ADDRESS     PORTS   PODS  CONNS  TRAFFIC      STATE
alias.shop  = web.shop  -       -     0      -            ready
mine.shop   127.0.0.1   80      -     0      -            ready: runs on this machine
web.shop    127.64.0.1  80,443  2/2   3      ↑10B ↓2.0kB  ready

SKIPPED
SERVICE     ADDRESS     PORTS   PODS  CONNS  TRAFFIC      STATE
mail.shop   -           -       0/0   0      -            skipped: ExternalName example.com is outside the cluster
`

func TestPs(t *testing.T) {
	status := control.Status{
		Overview: control.Overview{Synced: true, Contexts: []control.Context{{Name: "dev"}, {Name: "eu", Problems: []string{"cannot reach the API server of context eu"}}}},
		Services: []control.Service{
			{Name: "db.data", Address: "127.64.0.2", Ports: []control.Port{{Port: 5432}}, Pods: 2, State: control.Waiting, Reason: "no pod is ready"},
			{Name: "alias.shop", AliasOf: "web.shop", State: control.Ready},
			{Name: "mine.shop", Address: "127.0.0.1", Local: true, Ports: []control.Port{{Port: 80}}, State: control.Ready},
			{Name: "mail.shop", State: control.Skipped, Reason: "ExternalName example.com is outside the cluster"},
			{Name: "old.shop", State: control.Failed, Reason: "no port can be forwarded"},
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
		t.Errorf("got\n%s\nwant\n%s", got, psWant)
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

// ps --watch writes a row for each new or changed service, and a line for each removed
// one and each problem of a cluster, until the daemon stops.
func TestPsWatch(t *testing.T) {
	web := control.Service{Name: "web.shop", Service: "web", Namespace: "shop", Address: "127.64.0.1", Ports: []control.Port{{Port: 80}}, ReadyPods: 1, Pods: 1, State: control.Ready}
	web.Names = []string{"web.shop.svc.cluster.local", "web.shop"}
	d := servertest.NewDaemon(control.Status{Overview: control.Overview{Synced: true, Contexts: []control.Context{{Name: "dev"}}}, Services: []control.Service{web}})
	client, stop := servertest.Serve(t, d)
	var table, names, one termtest.Output
	ended := make(chan error, 3)
	go func() {
		ended <- watchServices(t.Context(), client, &one, serviceFilter{names: []string{"web.shop.svc.cluster.local"}, namespaces: []string{"shop"}}, "")
	}()
	go func() { ended <- watchServices(t.Context(), client, &table, serviceFilter{}, "") }()
	go func() {
		ended <- watchServices(t.Context(), client, &names, serviceFilter{names: []string{"web"}}, "name")
	}()
	table.Await(t, "SERVICE   ADDRESS     PORTS  PODS  CONNS  TRAFFIC  STATE\nweb.shop  127.64.0.1  80     1/1   0      -        ready\n")
	names.Await(t, "web.shop\n")
	one.Await(t, "ready\n")

	web.Names = nil // still selected
	web.State, web.Reason, web.ReadyPods = control.Waiting, "no pod is ready", 0
	d.Set(control.Status{
		Overview: control.Overview{Synced: true, Contexts: []control.Context{{Name: "dev", Problems: []string{"can't list services"}}}}, Services: []control.Service{web},
	})
	one.Await(t, "web.shop  127.64.0.1  80     0/1   0      -        waiting: no pod is ready\n")
	table.Await(t, "problem: can't list services\nweb.shop  127.64.0.1  80     0/1   0      -        waiting: no pod is ready\n")
	names.Await(t, "web.shop\n")

	d.Set(control.Status{Overview: control.Overview{Synced: true, Contexts: []control.Context{{Name: "dev", Namespaces: []string{"data"}, Reading: []string{"data"}}}}})
	table.Await(t, "context dev recovered\nnamespace data of context dev is still syncing\nweb.shop removed\n")

	d.Set(control.Status{Overview: control.Overview{Synced: true, Stopping: true, Contexts: []control.Context{{Name: "dev", Namespaces: []string{"data"}}}}})
	table.Await(t, "shutting down: namespace data of context dev\n")

	stop()
	one.Await(t, "shutting down: namespace data of context dev\n")
	for range 3 {
		if err := <-ended; !errors.Is(err, errStopped) {
			t.Errorf("when the daemon stopped: got %v, want %v", err, errStopped)
		}
	}
	if names.String() != "" {
		t.Errorf("names: got %q, want nothing more", names.String())
	}
}
