package daemon

import (
	"fmt"
	"slices"
	"testing"

	"github.com/kubeshore/kubeshore/pkg/control"
)

// Without names, one service per namespace is checked, and those that are denied.
func TestHostsToCheck(t *testing.T) {
	service := func(name, namespace string, change func(*control.Service)) control.Service {
		s := control.Service{Name: name + "." + namespace, Names: []string{name + "." + namespace}, Namespace: namespace, Service: name, State: control.Ready, ReadyPods: 1}
		if change != nil {
			change(&s)
		}
		return s
	}
	services := slices.Grow([]control.Service{
		service("a", "one", nil), service("b", "one", nil), service("c", "two", func(s *control.Service) { s.ReadyPods = 0 }), service("d", "two", nil),
		service("e", "three", nil), service("f", "three", func(s *control.Service) { s.Denied, s.State = true, control.Failed }),
		service("alias", "one", func(s *control.Service) { s.AliasOf = "d.two" }),
	}, 2*maxChecks)
	for i := range 2 * maxChecks {
		services = append(services, service("x", fmt.Sprintf("n%d", i), nil))
	}
	for _, c := range []struct{ names, want []string }{
		{[]string{"b.one", "alias.one", "unknown"}, []string{"b.one", "d.two"}},
		{nil, []string{"f.three", "a.one", "d.two", "x.n0"}},
	} {
		hosts := hostsToCheck(services, c.names)
		if len(hosts) > maxChecks {
			t.Errorf("%q: got %d services, want at most %d", c.names, len(hosts), maxChecks)
		}
		got := make([]string, 0, len(c.want))
		for _, h := range hosts[:min(len(hosts), len(c.want))] {
			got = append(got, h.Service.Name+"."+h.Service.Namespace)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q: got %q, want %q", c.names, got, c.want)
		}
	}
}
