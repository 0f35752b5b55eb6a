// Package plan computes the desired state of this machine from the state of the
// clusters and the user's options. It is pure: [Plan] depends on its arguments
// alone, and the package imports no logging, no synchronisation and no clock.
package plan

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Desired is what should stand on this machine.
type Desired struct {
	Hosts []Host // sorted by ID
	// Clusters are the snapshot's, with what the plan found wrong.
	Clusters []Cluster
}

// Host is what should have an address on this machine: a Service, or one pod
// of a headless Service.
type Host struct {
	ID      HostID
	Address netip.Addr // the one that it must have; the zero Addr if any will do
	Names   []string   // all that it is called, the fully qualified name first
	Ports   []Port     // sorted by number
	// Local means that it runs on this machine: its names lead to 127.0.0.1.
	Local bool
	// AliasOf is the host that an ExternalName Service stands for, which has its
	// names; zero if it doesn't.
	AliasOf HostID
	// Affinity is how long after the last connection to a port the next one
	// goes to the same pod; 0: each is a choice of its own. All clients are on
	// this machine and count as one.
	Affinity time.Duration
	// Ready and Pods count the pods that stand behind the host.
	Ready, Pods int
	// Problems says what of the host can't be forwarded, and why.
	Problems []string
	// Limits says what of it can't be forwarded, and never will be, as it is not what
	// port-forward is for: that is nothing to be put right.
	Limits []string
}

// Answers tells whether anything does at the host's address.
func (h *Host) Answers() bool { return h.Local || len(h.Ports) > 0 }

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

// Plan says what should stand on this machine for the snapshot. It is a pure
// function; the same input gives the same plan.
func Plan(s Snapshot, o Options) Desired {
	p := planner{options: o, clusters: slices.Clone(s.Clusters)}
	for i := range p.clusters {
		if context, further := o.of(p.clusters[i].Context); further > 0 {
			p.clusters[i].Alias = context.Alias
		}
	}
	external := make(map[ServiceID]string)
	known := make(map[ServiceID]bool, len(s.Services))
	controllers := make(map[ServiceID]bool)
	for _, ingress := range s.Ingresses {
		for _, id := range ingress.Controllers {
			controllers[id] = true
		}
	}
	for _, svc := range s.Services {
		context, i := o.of(svc.ID.Context)
		if i < 0 || known[svc.ID] || !context.covers(svc.ID) && !controllers[svc.ID] {
			continue
		}
		known[svc.ID] = true
		p.hosts = append(p.hosts, planService(svc, o))
		if svc.ExternalName != "" {
			external[svc.ID] = svc.ExternalName
		}
		if svc.Headless && !o.Services[svc.ID].Local {
			p.hosts = append(p.hosts, planPods(svc, o)...)
		}
	}
	for id, said := range o.Services {
		if _, i := o.of(id.Context); i >= 0 && said.Local && !known[id] {
			p.hosts = append(p.hosts, planService(Service{ID: id}, o))
		}
	}
	slices.SortFunc(p.hosts, func(a, b Host) int { return a.ID.Compare(b.ID) })
	p.byID = make(map[HostID]int, len(p.hosts))
	for i := range p.hosts {
		p.byID[p.hosts[i].ID] = i
	}
	p.unknownRefs(s.Services)
	p.claimOwn()
	p.claimExternal(external)
	p.claimIngresses(s.Ingresses)
	p.settleNames()
	return Desired{Hosts: p.hosts, Clusters: p.clusters}
}

// planner is a plan while it is being made.
type planner struct {
	options  Options
	clusters []Cluster
	hosts    []Host         // sorted by ID, once all are there
	byID     map[HostID]int // their indexes
	claims   []claim
}

// claimOwn notes the names that hosts have by themselves, if they answer at all.
func (p *planner) claimOwn() {
	for i, h := range p.hosts {
		if !h.Answers() {
			continue
		}
		rank := ofService
		if h.ID.Pod != "" {
			rank = ofPod
		} else {
			p.claimAll(i, given, p.options.Services[h.ID.Service].Names)
		}
		p.claimAll(i, rank, p.options.names(h.ID))
	}
}

func planService(svc Service, o Options) Host {
	said := o.Services[svc.ID]
	if said.Local {
		return Host{ID: HostID{Service: svc.ID}, Local: true}
	}
	host := Host{ID: HostID{Service: svc.ID}, Address: said.Address}
	switch {
	case svc.ExternalName != "":
		return host // what it stands for is found later
	case svc.Outside != "":
		host.Limits = append(host.Limits, fmt.Sprintf("its endpoints (like %s) are no pods that may be read; nothing to forward", svc.Outside))
		return host
	case len(svc.Ports) == 0:
		host.Limits = append(host.Limits, "it has no ports; nothing to forward")
		return host
	}
	host.count(svc.Endpoints)
	for _, p := range svc.Ports {
		switch {
		case p.Protocol != "TCP":
			host.Limits = append(host.Limits, fmt.Sprintf("port %d is %s; only TCP can be forwarded", p.Number, p.Protocol))
		case len(svc.Endpoints) > 0 && !slices.ContainsFunc(svc.Endpoints, func(e Endpoint) bool { return e.Ports[p.Name] != 0 }):
			host.Problems = append(host.Problems, fmt.Sprintf("port %d: %s", p.Number, noTarget(p)))
		}
	}
	host.Problems = append(host.Problems, unmapped(svc, said.Mapping)...)
	var problems []string
	host.Ports, problems = ports(svc, svc.Endpoints, o)
	host.Problems = append(host.Problems, problems...)
	if !svc.Headless { // in the cluster it is the virtual address that has an affinity
		host.Affinity = svc.Affinity
	}
	return host
}

// count counts the pods behind the host. Those that terminate count only if
// there are no others.
func (h *Host) count(endpoints []Endpoint) {
	for _, e := range endpoints {
		if e.Ready {
			h.Ready++
		}
		if !e.Terminating {
			h.Pods++
		}
	}
	if h.Pods == 0 {
		h.Pods = len(endpoints)
	}
}

// noTarget says why no pod has a port of a Service.
func noTarget(p ServicePort) string {
	if p.Target != "" {
		return fmt.Sprintf("no container of its pods has a port with the name %s, which is its targetPort", p.Target)
	}
	return "its endpoints don't have that port"
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
		host := Host{ID: id}
		host.Ports, _ = ports(svc, endpoints, o)
		if len(host.Ports) == 0 {
			continue // the Service's own host says why
		}
		host.count(endpoints)
		hosts = append(hosts, host)
	}
	return hosts
}

// ports returns the TCP ports that the Service answers on here, with the
// endpoints' targets for each, and what is wrong with them. Clients of a
// headless Service connect to the pods' addresses, that is to the target ports;
// so it answers there, and on the numbers of the spec where no target port has
// them.
func ports(svc Service, endpoints []Endpoint, o Options) (all []Port, problems []string) {
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
	from := make(map[uint16]uint16) // the number of the spec that a port here is
	for _, p := range tcp {
		here := o.port(svc.ID, p.Number)
		if _, taken := direct[here]; taken {
			continue
		}
		if other, taken := from[here]; taken && other != p.Number {
			problems = append(problems, fmt.Sprintf("port %d can't be had: %d here is port %d's; map it to another", p.Number, here, other))
			continue
		}
		from[here] = p.Number
		if _, ok := targets[here]; !ok {
			targets[here] = nil // it answers even before there are pods
		}
		for _, e := range endpoints {
			if target, ok := e.Ports[p.Name]; ok {
				add(here, e, target)
			}
		}
	}
	for number, t := range targets {
		all = append(all, Port{Number: number, Targets: t})
	}
	slices.SortFunc(all, func(a, b Port) int { return cmp.Compare(a.Number, b.Number) })
	return all, problems
}
