package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kubeshore/kubeshore/internal/namepolicy"
)

// portRange returns a Service with a number of ports and of pods.
func portRange(name string, ports, pods int) Service {
	svc := Service{ID: ServiceID{"ctx", "shop", name}}
	numbers := make(map[string]uint16, ports)
	for i := range ports {
		p := ServicePort{Name: fmt.Sprintf("p%d", i), Protocol: "TCP", Number: uint16(i + 1)}
		svc.Ports = append(svc.Ports, p)
		numbers[p.Name] = p.Number
	}
	for i := range pods {
		pod := PodRef{"ctx", "shop", fmt.Sprintf("%s-%05d", name, i), "u"}
		svc.Endpoints = append(svc.Endpoints, Endpoint{Pod: pod, Ready: i >= pods/2, Serving: true, Ports: numbers})
	}
	return svc
}

func testOptions() Options {
	return Options{Names: namepolicy.Policy{Patterns: []string{"*.shop"}}, Contexts: []ContextOptions{{Context: "ctx", Namespace: "shop"}}}
}

// planOf returns the hosts of Services by name, and checks the limits of the plan.
func planOf(t *testing.T, services ...Service) map[string]Host {
	t.Helper()
	hosts := make(map[string]Host)
	ports, names, size := 0, 0, 0
	for _, h := range Plan(Snapshot{Clusters: []Cluster{{Context: "ctx"}}, Services: services}, testOptions()).Hosts {
		hosts[h.ID.String()] = h
		ports, names = ports+len(h.Ports), names+len(h.Names)
		targets := 0
		for _, p := range h.Ports {
			targets += len(p.Targets)
		}
		for _, name := range h.Names {
			size += len(name) + 6
		}
		if len(h.Ports) > MaxHostPorts || targets > MaxHostTargets {
			t.Errorf("%v: got %d ports, %d targets, want at most %d, %d", h.ID, len(h.Ports), targets, MaxHostPorts, MaxHostTargets)
		}
		if lines := len(h.Problems) + len(h.Limits); lines > 4*maxLines {
			t.Errorf("%v: got %d problems and limits, want a few", h.ID, lines)
		}
	}
	if ports > MaxPorts || names > MaxNames || size > MaxNamesSize {
		t.Errorf("got %d ports, %d names of %d bytes, want at most %d, %d, %d", ports, names, size, MaxPorts, MaxNames, MaxNamesSize)
	}
	return hosts
}

// Whatever a Service needs too much of costs other Services nothing, and is
// reported.
func TestExcessIsLimitedToItsService(t *testing.T) {
	udp := portRange("udp", 17000, 1)
	for i := range udp.Ports {
		udp.Ports[i].Protocol = "UDP"
	}
	missing := portRange("missing", 17000, 1)
	missing.Endpoints[0].Ports = nil
	headless := portRange("headless", 17000, 40)
	headless.Headless = true
	named := portRange("named", 600, 600) // each pod has other numbers for the same ports
	named.Headless = true
	for i := range named.Endpoints {
		numbers := make(map[string]uint16)
		for j, p := range named.Ports {
			numbers[p.Name] = uint16(1000 + 97*i + j)
		}
		named.Endpoints[i].Ports = numbers
	}
	many := make([]Service, 0, 70)
	for i := range 70 {
		many = append(many, portRange(fmt.Sprintf("a%02d", i), 1000, 1))
	}
	for name, c := range map[string]struct {
		services []Service
		reported []string // hosts, with a text of their problems and limits
	}{
		"four times 17,000 ports": {
			[]Service{portRange("a", 17000, 1), portRange("b", 17000, 1), portRange("c", 17000, 1), portRange("d", 17000, 1)},
			[]string{"a.shop: 17000 ports; only the first 1024", "d.shop: 17000 ports; only the first 1024"},
		},
		"17,000 UDP ports":         {[]Service{udp}, []string{"udp.shop: port 1 is UDP", "udp.shop: more ports like these"}},
		"17,000 ports without pod": {[]Service{missing}, []string{"missing.shop: port 1: no endpoint has this port", "missing.shop: more ports like these"}},
		"ports times pods":         {[]Service{portRange("big", 1000, 1000)}, []string{"big.shop: 1000 pods with 1000 ports; only 16 pods"}},
		"headless":                 {[]Service{headless}, []string{"headless.shop: 17000 ports"}},
		"other ports in each pod":  {[]Service{named}, []string{"named.shop: 600 pods with 600 ports"}},
		"70,000 ports in all":      {many, []string{"a69.shop: not forwarded: all services together have more than 65536 ports"}},
	} {
		t.Run(name, func(t *testing.T) {
			hosts := planOf(t, append(c.services, portRange("web", 2, 2), portRange("zz", 3, 2))...)
			for _, want := range []string{"web.shop", "zz.shop"} {
				h := hosts[want]
				limits := slices.DeleteFunc(slices.Clone(h.Limits), func(text string) bool { return strings.Contains(text, "of its pods have no names") }) // the ports of others leave no room
				if len(h.Names) != 4 || len(h.Ports) < 2 || len(h.Problems)+len(limits) > 0 {
					t.Errorf("%s: got names %q, %d ports, %q, %q, want 4 names, its ports and nothing else", want, h.Names, len(h.Ports), h.Problems, h.Limits)
				}
			}
			for _, want := range c.reported {
				host, text, _ := strings.Cut(want, ": ")
				if got := fmt.Sprint(hosts[host].Problems, hosts[host].Limits); !strings.Contains(got, text) {
					t.Errorf("%s: got %.300s, want %q", host, got, text)
				}
			}
		})
	}
}

// If pods are left out, ready ones are used.
func TestReadyPodsAreUsedFirst(t *testing.T) {
	for _, p := range planOf(t, portRange("big", 1000, 1000))["big.shop"].Ports {
		for _, target := range p.Targets {
			if !target.Ready {
				t.Fatalf("port %d leads to %v, want a ready pod", p.Number, target.Pod)
			}
		}
	}
}

// Too many names cost the hosts with the lowest precedence theirs.
func TestTooManyNames(t *testing.T) {
	options, snapshot := testOptions(), Snapshot{Clusters: []Cluster{{Context: "ctx"}}, Services: []Service{portRange("web", 1, 1), portRange("zz", 1, 1)}}
	user := make([]string, MaxNames)
	for i := range user {
		user[i] = fmt.Sprintf("n%d", i)
	}
	options.Services = map[ServiceID]ServiceOptions{snapshot.Services[0].ID: {Names: user}}
	hosts := Plan(snapshot, options).Hosts
	if got := fmt.Sprint(hosts[1].Problems); !strings.Contains(got, "names left out: all services together have too many") {
		t.Errorf("got %s, want that names were left out", got)
	}
}

// BenchmarkManyPorts measures the plan of Services with many ports and pods. The
// limits bound its time.
func BenchmarkManyPorts(b *testing.B) {
	for _, size := range [][2]int{{100, 100}, {1000, 100}, {10000, 100}, {10000, 1000}} {
		b.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(b *testing.B) {
			s := Snapshot{Clusters: []Cluster{{Context: "ctx"}}, Services: []Service{portRange("web", size[0], size[1])}}
			for b.Loop() {
				Plan(s, testOptions())
			}
		})
	}
}
