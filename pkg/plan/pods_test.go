package plan

import (
	"fmt"
	"net/netip"
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
