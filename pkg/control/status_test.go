package control

import (
	"strconv"
	"strings"
	"testing"
)

func service(name string, state State) Service {
	return Service{Name: name + ".shop", Service: name, Namespace: "shop", Context: "dev", State: state, Names: []string{name + ".shop", name}}
}

func TestReadiness(t *testing.T) {
	all := []Service{service("web", Ready), service("db", Failed)}
	syncing := func(namespaces ...string) Overview {
		return Overview{Synced: true, Contexts: []Context{{Name: "dev", Reading: namespaces}}}
	}
	for name, c := range map[string]struct {
		overview Overview
		names    []string
		want     string
	}{
		"requested service is ready":       {Overview{Synced: true}, []string{"web"}, "true"},
		"one of all has failed":            {Overview{Synced: true}, nil, "false waiting"},
		"kubeshore is stopping":            {Overview{Synced: true, Stopping: true}, []string{"web"}, "false kubeshore is shutting down"},
		"known name while syncing":         {syncing("a"), []string{"web"}, "true"},
		"unknown name while syncing":       {syncing("a"), []string{"x"}, "false unknown namespace a of context dev is still syncing"},
		"all while a namespace is syncing": {syncing("a"), nil, "false waiting namespace a of context dev is still syncing"},
		"a note":                           {Overview{Synced: true, Contexts: []Context{{Name: "dev", Notes: []string{"reading pods instead"}}}}, []string{"web"}, "true"},
		"all while a context is syncing":   {syncing("*"), nil, "false waiting context dev is still syncing"},
	} {
		r := ReadinessOf(Status{Overview: c.overview, Services: all}, c.names)
		parts := []string{strconv.FormatBool(r.Ready)}
		if len(r.Waiting) > 0 {
			parts = append(parts, "waiting")
		}
		if len(r.Unknown) > 0 {
			parts = append(parts, "unknown")
		}
		if got := strings.Join(append(parts, r.Problems...), " "); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestSkippedServiceCountsOnlyIfNamed(t *testing.T) {
	status := Status{Overview: Overview{Synced: true}, Services: []Service{service("web", Ready), service("mail", Skipped)}}
	if r := ReadinessOf(status, nil); !r.Ready {
		t.Errorf("without names: got %+v, want it ready", r)
	}
	if r := ReadinessOf(status, []string{"mail"}); r.Ready || len(r.Waiting) != 1 {
		t.Errorf("by name: got %+v, want one service that isn't ready", r)
	}
}

// A name that isn't in the hosts file doesn't count, although it identifies the
// service, unless kubeshore has no names at all.
func TestOnlyNamesThatResolveAreReady(t *testing.T) {
	web := service("web", Ready)
	web.Names = []string{"web.shop"} // another program's line has web
	status := Status{Overview: Overview{Synced: true}, Services: []Service{web}}
	for name, want := range map[string]string{"web.shop": "", "WEB.shop.": "", "web": "web doesn't lead to the service on this machine; it resolves as web.shop"} {
		r := ReadinessOf(status, []string{name})
		if got := strings.Join(r.Problems, "; "); got != want || r.Ready != (want == "") {
			t.Errorf("%s: got ready %t, problems %q, want %q", name, r.Ready, got, want)
		}
	}
	status.Services[0].Names = nil
	if r := ReadinessOf(status, []string{"web"}); !r.Ready {
		t.Errorf("without names: got %+v, want it ready", r)
	}
}

func TestHopeless(t *testing.T) {
	denied := service("db", Failed)
	denied.Denied = true
	for name, c := range map[string]struct {
		services []Service
		overview Overview
		want     bool
	}{
		"denied":              {[]Service{service("web", Ready), denied}, Overview{Synced: true}, true},
		"another is waiting":  {[]Service{service("web", Waiting), denied}, Overview{Synced: true}, false},
		"failed, not denied":  {[]Service{service("web", Failed)}, Overview{Synced: true}, false},
		"nothing is missing":  {[]Service{service("web", Ready)}, Overview{Synced: true}, false},
		"a namespace may add": {[]Service{denied}, Overview{Synced: true, Contexts: []Context{{Name: "dev", Reading: []string{"a"}}}}, false},
	} {
		if got := ReadinessOf(Status{Overview: c.overview, Services: c.services}, nil).Hopeless(); got != c.want {
			t.Errorf("%s: got %t, want %t", name, got, c.want)
		}
	}
}
