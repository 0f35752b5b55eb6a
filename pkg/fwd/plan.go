package fwd

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Options is what a user may say about the plan.
type Options struct {
	// Context and Namespace are those whose Services answer to their bare
	// name too, as they would for a pod of that namespace.
	Context   string
	Namespace string
}

// Host is what should have an address on this machine: a Service, or one pod
// of a headless Service.
type Host struct {
	ID    HostID
	Names []string // all that it is called, the fully qualified name first
	Ports []Port   // sorted by number
	// Affinity is how long after the last connection to a port the next one
	// goes to the same pod; 0: each is a choice of its own. All clients are on
	// this machine and count as one.
	Affinity time.Duration
	// Ready and Pods count the pods that stand behind the host.
	Ready, Pods int
	// Problems says what of the host can't be forwarded, and why.
	Problems []string
}

// Port is one TCP port that a host answers on.
type Port struct {
	Number  uint16
	Targets []Target
}

// Target is where connections to a port may go: one port of one pod.
type Target struct {
	Pod  PodRef
	Port uint16
	// Ready targets take new connections. If a port has none, those do that
	// are Serving while their pod terminates, as with kube-proxy (KEP-1669).
	Ready       bool
	Serving     bool
	Terminating bool
}

// Plan says what should stand on this machine for the snapshot: the hosts,
// sorted by ID. It is a pure function; the same input gives the same plan.
func Plan(s Snapshot, o Options) []Host {
	hosts := make([]Host, 0, len(s.Services))
	for _, svc := range s.Services {
		hosts = append(hosts, planService(svc, o))
		if svc.Headless {
			hosts = append(hosts, planPods(svc, o)...)
		}
	}
	slices.SortFunc(hosts, func(a, b Host) int { return a.ID.Compare(b.ID) })
	settleNames(hosts)
	return hosts
}

// settleNames leaves each name with one host. The pod db-0 of the headless
// Service web is called db-0.web where its namespace is the first, and so is
// the Service db-0 of a namespace web: a Service goes before a pod, then the
// order of hosts decides.
func settleNames(hosts []Host) {
	owner := make(map[string]HostID)
	for _, pods := range []bool{false, true} {
		for i := range hosts {
			h := &hosts[i]
			if (h.ID.Pod != "") != pods {
				continue
			}
			h.Names = slices.DeleteFunc(h.Names, func(name string) bool {
				first, taken := owner[name]
				if taken {
					h.Problems = append(h.Problems, fmt.Sprintf("the name %s goes to %s instead", name, first))
				} else {
					owner[name] = h.ID
				}
				return taken
			})
		}
	}
}

func planService(svc Service, o Options) Host {
	id := HostID{Service: svc.ID}
	host := Host{ID: id, Pods: len(svc.Endpoints)}
	switch {
	case svc.ExternalName != "":
		host.Problems = append(host.Problems, fmt.Sprintf("it stands for %s, outside the cluster; nothing to forward", svc.ExternalName))
		return host
	case len(svc.Ports) == 0:
		host.Problems = append(host.Problems, "it has no ports")
		return host
	}
	for _, e := range svc.Endpoints {
		if e.Ready {
			host.Ready++
		}
	}
	for _, p := range svc.Ports {
		if p.Protocol != "TCP" {
			host.Problems = append(host.Problems, fmt.Sprintf("port %d is %s; only TCP can be forwarded", p.Number, p.Protocol))
		}
	}
	if host.Ports = ports(svc, svc.Endpoints); len(host.Ports) > 0 {
		host.Names = names(id, o)
	}
	if !svc.Headless { // in the cluster it is the virtual address that has an affinity
		host.Affinity = svc.Affinity
	}
	return host
}

// planPods returns a host for each pod of a headless Service, by the pod's
// host name or, where it has none, its name. It exists as long as the pod is
// an endpoint, ready or not: its name then stays put while the pod restarts.
func planPods(svc Service, o Options) []Host {
	byName := make(map[string][]Endpoint)
	for _, e := range svc.Endpoints {
		name := cmp.Or(e.Hostname, e.Pod.Name)
		byName[name] = append(byName[name], e)
	}
	hosts := make([]Host, 0, len(byName))
	for name, endpoints := range byName {
		id := HostID{Service: svc.ID, Pod: name}
		host := Host{ID: id, Ports: ports(svc, endpoints), Pods: len(endpoints)}
		if len(host.Ports) == 0 {
			continue // the Service's own host says why
		}
		for _, e := range endpoints {
			if e.Ready {
				host.Ready++
			}
		}
		host.Names = names(id, o)
		hosts = append(hosts, host)
	}
	return hosts
}

// ports returns the TCP ports that the Service answers on, with the endpoints'
// targets for each. Clients of a headless Service connect to the pods'
// addresses, that is to the target ports; so it answers there, and on the
// numbers of the spec where no target port has them.
func ports(svc Service, endpoints []Endpoint) []Port {
	type place struct {
		number uint16
		pod    PodRef
	}
	targets := make(map[uint16][]Target)
	have := make(map[place]bool) // several ports of a spec may share a target
	add := func(number uint16, e Endpoint, target uint16) {
		if at := (place{number, e.Pod}); !have[at] {
			have[at] = true
			targets[number] = append(targets[number], Target{
				Pod: e.Pod, Port: target, Ready: e.Ready, Serving: e.Serving, Terminating: e.Terminating,
			})
		}
	}
	tcp := slices.DeleteFunc(slices.Clone(svc.Ports), func(p ServicePort) bool { return p.Protocol != "TCP" })
	if svc.Headless {
		for _, p := range tcp {
			for _, e := range endpoints {
				if target, ok := e.Ports[p.Name]; ok {
					add(target, e, target)
				}
			}
		}
	}
	direct := maps.Clone(targets)
	for _, p := range tcp {
		if _, taken := direct[p.Number]; taken {
			continue
		}
		targets[p.Number] = nil // it answers even before there are pods
		for _, e := range endpoints {
			if target, ok := e.Ports[p.Name]; ok {
				add(p.Number, e, target)
			}
		}
	}
	result := make([]Port, 0, len(targets))
	for number, t := range targets {
		result = append(result, Port{Number: number, Targets: t})
	}
	slices.SortFunc(result, func(a, b Port) int { return cmp.Compare(a.Number, b.Number) })
	return result
}

// names returns all the names of a host, the fully qualified one first, so
// that it is the canonical name as in the cluster.
func names(id HostID, o Options) []string {
	svc := id.Service
	base := svc.Name
	if id.Pod != "" {
		base = id.Pod + "." + svc.Name
	}
	all := []string{
		base + "." + svc.Namespace + ".svc.cluster.local",
		base + "." + svc.Namespace + ".svc",
		base + "." + svc.Namespace,
	}
	if svc.Context == o.Context && svc.Namespace == o.Namespace {
		all = append(all, base)
	}
	return all
}
