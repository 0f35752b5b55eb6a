package plan

import (
	"cmp"
	"fmt"
	"slices"
)

// planPorts returns the local TCP ports of a Service with their targets among
// the endpoints, and the ports that collide. Clients of a headless Service
// connect to the pods' addresses and so use the target ports. It therefore gets
// these, and the ports of its spec where they don't collide with a target port.
func planPorts(svc Service, endpoints []Endpoint, o Options) (all []Port, problems []string) {
	tcp := slices.DeleteFunc(slices.Clone(svc.Ports), func(p ServicePort) bool { return p.Protocol != "TCP" })
	taken := make(map[uint16]uint16, len(tcp)) // ports of the spec by local port; 0 is a target port
	if svc.Headless {
		all = targetPorts(tcp, endpoints)
		for _, p := range all {
			taken[p.Number] = 0
		}
	}
	for _, p := range tcp {
		local := o.localPort(svc.ID, p.Number)
		switch other, exists := taken[local]; {
		case exists && other != 0 && other != p.Number:
			problems = append(problems, fmt.Sprintf("port %d: local port %d is already used by port %d; choose another mapping", p.Number, local, other))
			continue
		case exists || len(all) == MaxHostPorts:
			continue
		}
		taken[local] = p.Number
		port := Port{Number: local} // listens even before there are pods
		for i := range endpoints {
			if target, ok := endpoints[i].Ports[p.Name]; ok {
				port.Targets = append(port.Targets, newTarget(&endpoints[i], target))
			}
		}
		all = append(all, port)
	}
	slices.SortFunc(all, func(a, b Port) int { return cmp.Compare(a.Number, b.Number) })
	return all, problems
}

// targetPorts returns the target ports of a Service's ports, each once for each
// endpoint that has it.
func targetPorts(ports []ServicePort, endpoints []Endpoint) (all []Port) {
	index := make(map[uint16]int, len(ports))
	last := make([]int, 0, len(ports)) // by index: the last endpoint that was added
	for i := range endpoints {
		for _, p := range ports {
			number, ok := endpoints[i].Ports[p.Name]
			if !ok {
				continue
			}
			at, known := index[number]
			if !known && len(all) == MaxHostPorts {
				continue
			}
			if !known {
				at = len(all)
				index[number] = at
				all, last = append(all, Port{Number: number}), append(last, -1)
			}
			if last[at] != i { // several ports may share a target
				last[at] = i
				all[at].Targets = append(all[at].Targets, newTarget(&endpoints[i], number))
			}
		}
	}
	return all
}

func newTarget(e *Endpoint, port uint16) Target {
	return Target{Pod: e.Pod, Port: port, Ready: e.Ready, Serving: e.Serving, Terminating: e.Terminating}
}
