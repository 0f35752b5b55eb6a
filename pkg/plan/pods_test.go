package plan

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// withAddresses returns a Service with pods that have addresses.
func withAddresses(name string, pods int) Service {
	svc := portRange(name, 1, pods)
	address := netip.MustParseAddr("10.244.0.1")
	for i := range svc.Endpoints {
		svc.Endpoints[i].Address = address
		address = address.Next()
	}
	return svc
}

// The names of the pods of Services with a cluster IP are limited, per Service and
// in all; the first Services have theirs completely, whatever their order in the
// snapshot.
func TestImplicitPodsAreLimited(t *testing.T) {
	services := make([]Service, 0, 42)
	for i := range 40 {
		services = append(services, withAddresses(fmt.Sprintf("s%02d", 39-i), 10))
	}
	services = append(services, withAddresses("a", maxNamedPods), withAddresses("b", maxNamedPods+1))
	byService := make(map[string]int)
	total := 0
	for _, h := range Plan(Snapshot{Clusters: []Cluster{{Context: "ctx"}}, Services: services}, testOptions()).Hosts {
		if h.Implicit {
			byService[h.ID.Service.Name]++
			total++
		}
	}
	if byService["a"] != maxNamedPods || byService["b"] != 0 || byService["s00"] != 10 || byService["s39"] != 0 || total != maxImplicitPods {
		t.Errorf("got %v, %d in all, want %d for a, none for b, 10 for s00, none for s39, %d in all", byService, total, maxNamedPods, maxImplicitPods)
	}
}

// A pod keeps its identity, and so its address here, when its address in the
// cluster changes; a pod that gets the address of another gets its name only once
// that one is going.
func TestDashedNamesFollowPods(t *testing.T) {
	names := func(svc Service) map[string]string {
		result := make(map[string]string)
		for _, h := range Plan(Snapshot{Services: []Service{svc}}, testOptions()).Hosts {
			if h.Implicit {
				result[h.ID.Pod] = h.Names[0]
			}
		}
		return result
	}
	svc := withAddresses("web", 2)
	const first, second = "10-244-0-1.web.shop.svc.cluster.local", "10-244-0-2.web.shop.svc.cluster.local"
	if got := names(svc); got["web-00000"] != first || got["web-00001"] != second {
		t.Errorf("got %v", got)
	}
	svc.Endpoints[0].Terminating, svc.Endpoints[1].Address = true, svc.Endpoints[0].Address
	if got := names(svc); got["web-00001"] != first || len(got) != 1 {
		t.Errorf("with one address for two pods: got %v, want it for the one that stays", got)
	}
}

// Pods that get no names because there are too many are reported at their Service.
func TestOmittedPodsAreReported(t *testing.T) {
	headless := func(name string, ports, pods int) Service {
		svc := portRange(name, ports, pods)
		svc.Headless = true
		return svc
	}
	many := make([]Service, 0, 40)
	for i := range 40 {
		many = append(many, withAddresses(fmt.Sprintf("web-%02d", i), 10)) // 400 pods in all
	}
	yes := true
	for name, c := range map[string]struct {
		services []Service
		options  map[ServiceID]ServiceOptions
		service  string
		pods     int // of all services
		want     string
	}{
		"a large headless service": {[]Service{headless("db", 1, 1500)}, nil, "db.shop", 1024, "476 of its pods have no names of their own, because there are too many; podNames: true in kubeshore.yaml adds the others"},
		"requested":                {[]Service{headless("db", 1, 1500)}, map[ServiceID]ServiceOptions{{"ctx", "shop", "db"}: {PodNames: &yes}}, "db.shop", 1500, ""},
		"too many ports":           {[]Service{headless("db", 1000, 100)}, nil, "db.shop", 66, "34 of its pods have no names of their own, because there are too many; podNames: true in kubeshore.yaml adds the others"},
		"too many in all":          {[]Service{headless("db", 1, 10_000)}, map[ServiceID]ServiceOptions{{"ctx", "shop", "db"}: {PodNames: &yes}}, "db.shop", maxPods, "1808 of its pods have no names of their own, because there are too many; select fewer services (-n, --include, --exclude)"},
		"many services":            {many, nil, "web-39.shop", 250, "its 10 pods have no names of their own, because 250 pods of other services have; podNames: true in kubeshore.yaml adds them"},
	} {
		options := testOptions()
		options.Services = c.options
		pods, limits := 0, ""
		for _, h := range Plan(Snapshot{Clusters: []Cluster{{Context: "ctx"}}, Services: c.services}, options).Hosts {
			if h.ID.Pod != "" {
				pods++
			} else if h.ID.String() == c.service {
				limits = strings.Join(h.Limits, "; ")
			}
		}
		if pods != c.pods || !strings.HasSuffix(limits, c.want) || c.want == "" && limits != "" {
			t.Errorf("%s: got %d pods, limits %q; want %d, %q", name, pods, limits, c.pods, c.want)
		}
	}
}
