package daemon

import (
	"fmt"
	"slices"
	"testing"

	"github.com/kubeshore/kubeshore/pkg/control"
	"github.com/kubeshore/kubeshore/pkg/kube"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

func TestStatusLine(t *testing.T) {
	status := control.Status{
		Overview: control.Overview{Synced: true, Contexts: []control.Context{{Name: "dev", Namespaces: []string{"shop", "data"}}, {Name: "eu", Problems: []string{"cannot reach the API server"}}}},
		Services: []control.Service{
			{State: control.Ready, Connections: 2, BytesUp: 1200, BytesDown: 3_400_000},
			{State: control.Waiting},
			{State: control.Degraded, BytesDown: 45_600_000},
		},
	}
	if got, want := statusLine(status, ""), "2/3 services ready · eu: problems: 1 · 2 open · ↑1.2kB ↓49MB · dev/shop,data eu/all namespaces"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestStatusLineWhileStarting(t *testing.T) {
	follow := []kube.Follow{{Context: "dev", Namespaces: []string{"shop", "data"}}, {Context: "eu"}}
	services := []plan.Service{{ID: plan.ServiceID{Context: "dev", Namespace: "shop", Name: "a"}}}
	for _, c := range []struct {
		snapshot plan.Snapshot
		want     string
	}{
		{plan.Snapshot{}, "reading dev, eu"},
		{plan.Snapshot{Clusters: []plan.Cluster{{Context: "dev", Read: []string{"shop"}}, {Context: "eu"}}, Services: services}, "services found: 1, reading dev, eu"},
		{plan.Snapshot{Clusters: []plan.Cluster{{Context: "dev", Read: []string{"shop", "data"}}, {Context: "eu"}}, Services: services}, "services found: 1, reading eu"},
		{plan.Snapshot{Clusters: []plan.Cluster{{Context: "dev", Read: []string{"shop", "data"}}, {Context: "eu", Read: []string{""}}}, Services: services}, "services found: 1"},
	} {
		if got := progress(follow, c.snapshot); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	var status control.Status
	status.Contexts = []control.Context{{Name: "dev", Namespaces: []string{"shop"}, Reading: []string{"shop"}}}
	if got, want := statusLine(status, "reading dev"), "starting · reading dev · dev/shop"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	status.Synced = true
	if got, want := statusLine(status, ""), "0/0 services ready · reading dev · 0 open · ↑0B ↓0B · dev/shop"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A daemon that is detached shows which services it waits for.
func TestWaitingLine(t *testing.T) {
	var status control.Status
	status.Synced, status.Contexts = true, []control.Context{{Name: "dev", Namespaces: []string{"shop"}}}
	status.Services = []control.Service{{Name: "web.shop", State: control.Ready}}
	for i, want := range []string{"a.shop", "a.shop, b.shop", "a.shop, b.shop, c.shop", "a.shop, b.shop, c.shop, …"} {
		status.Services = append(status.Services, control.Service{Name: string(rune('a'+i)) + ".shop", State: control.Waiting})
		want = fmt.Sprintf("1/%d services ready · waiting for %s · 0 open · ↑0B ↓0B · dev/shop", i+2, want)
		if got := new(Daemon).waitingLine(status, control.ReadinessOf(status, nil)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestUnread(t *testing.T) {
	for _, c := range []struct{ followed, read, want []string }{
		{[]string{"a", "b"}, []string{"b", "c"}, []string{"a"}},
		{[]string{"a"}, []string{"a"}, nil},
		{nil, nil, []string{"*"}},
		{nil, []string{"a"}, []string{"*"}},
		{nil, []string{""}, nil},
	} {
		if got := unread(c.followed, c.read); !slices.Equal(got, c.want) {
			t.Errorf("%q without %q: got %q, want %q", c.followed, c.read, got, c.want)
		}
	}
}
