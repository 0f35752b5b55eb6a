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
	for name, c := range map[string]struct {
		overview Overview
		names    []string
		want     string
	}{
		"ready":                     {Overview{Synced: true}, []string{"web"}, "true"},
		"one has failed":            {Overview{Synced: true}, nil, "false waiting"},
		"it is ending":              {Overview{Synced: true, Stopping: true}, []string{"web"}, "false kubeshore is just ending"},
		"another is read":           {Overview{Synced: true, Contexts: []Context{{Name: "dev", Reading: []string{"a"}}}}, []string{"web"}, "true"},
		"it may be read yet":        {Overview{Synced: true, Contexts: []Context{{Name: "dev", Reading: []string{"a"}}}}, []string{"x"}, "false unknown namespace a of context dev is still being read"},
		"a namespace isn't read":    {Overview{Synced: true, Contexts: []Context{{Name: "dev", Reading: []string{"a"}}}}, nil, "false waiting namespace a of context dev is still being read"},
		"all namespaces aren't yet": {Overview{Synced: true, Contexts: []Context{{Name: "dev", Reading: []string{"*"}}}}, nil, "false waiting context dev is still being read"},
	} {
		r := ReadinessOf(Status{Overview: c.overview, Services: all}, c.names)
		said := []string{strconv.FormatBool(r.Ready)}
		if len(r.Waiting) > 0 {
			said = append(said, "waiting")
		}
		if len(r.Unknown) > 0 {
			said = append(said, "unknown")
		}
		if got := strings.Join(append(said, r.Problems...), " "); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// What can't be forwarded by what it is doesn't keep all from being ready; who asks for it
// by name hears why.
func TestSkippedIsNotWaitedFor(t *testing.T) {
	status := Status{Overview: Overview{Synced: true}, Services: []Service{service("web", Ready), service("mail", Skipped)}}
	if r := ReadinessOf(status, nil); !r.Ready {
		t.Errorf("%+v", r)
	}
	if r := ReadinessOf(status, []string{"mail"}); r.Ready || len(r.Waiting) != 1 {
		t.Errorf("by name: %+v", r)
	}
}
