package plan

import (
	"fmt"
	"strings"
	"testing"
)

// However many hosts an Ingress has, the names and problems that it causes are
// limited, and the excess is reported.
func TestIngressHostsAreLimited(t *testing.T) {
	const number = 20000
	id := func(name string) ServiceID { return ServiceID{"ctx", "shop", name} }
	for name, c := range map[string]struct {
		host        string
		controllers []ServiceID
		names       int    // of the controller, from Ingresses
		reported    string // in the cluster's problems
	}{
		"hosts":         {"h%d.example.com", []ServiceID{id("web")}, maxIngressHosts, "the ingress has 20000 hosts; only the first 1024 are written"},
		"wildcards":     {"*.h%d.example.com", []ServiceID{id("web")}, 0, "more ingress hosts like these"},
		"no controller": {"h%d.example.com", nil, 0, "more ingress hosts like these"},
		"refused":       {"wpad.h%d.example.com", []ServiceID{id("web")}, 0, "more ingress hosts like these"},
	} {
		t.Run(name, func(t *testing.T) {
			ingress := Ingress{ID: id("many"), Controllers: c.controllers}
			for i := range number {
				ingress.Hosts = append(ingress.Hosts, fmt.Sprintf(c.host, i))
			}
			options := testOptions()
			options.Ingress = []string{"*"}
			desired := Plan(Snapshot{Clusters: []Cluster{{Context: "ctx"}}, Services: []Service{portRange("web", 1, 1)}, Ingresses: []Ingress{ingress}}, options)
			problems := desired.Clusters[0].Problems
			if got := strings.Join(problems, "\n"); len(problems) > 2*maxLines || !strings.Contains(got, c.reported) {
				t.Errorf("got %d problems, want a few with %q: %.500s", len(problems), c.reported, got)
			}
			names := 0
			for _, h := range desired.Hosts {
				for _, name := range h.Names {
					if strings.HasSuffix(name, "example.com") {
						names++
					}
				}
			}
			if names != c.names {
				t.Errorf("got %d names, want %d", names, c.names)
			}
		})
	}
}

// Names that other hosts have are limited in the same way.
func TestCollisionsAreLimited(t *testing.T) {
	services := []Service{portRange("web", 1, 1), portRange("zz", 1, 1)}
	options := testOptions()
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprintf("n%d", i)
	}
	options.Services = map[ServiceID]ServiceOptions{services[0].ID: {Names: names}, services[1].ID: {Names: names}}
	hosts := Plan(Snapshot{Clusters: []Cluster{{Context: "ctx"}}, Services: services}, options).Hosts
	if got := strings.Join(hosts[1].Problems, "\n"); len(hosts[1].Problems) > maxLines+1 || !strings.Contains(got, "992 more names like these") {
		t.Errorf("got %d problems, want a few: %.300s", len(hosts[1].Problems), got)
	}
}
