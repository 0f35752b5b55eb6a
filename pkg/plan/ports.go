package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// planPorts returns the local TCP ports of a Service with their targets among
// the endpoints, and the ports that collide. Clients of a headless Service
// connect to the pods' addresses and so use the target ports. It therefore gets
// these, and the ports of its spec where they don't collide with a target port.
func planPorts(svc Service, endpoints []Endpoint, o Options) (all []Port, problems []string) {
	type localTarget struct {
		local uint16
		pod   PodRef
	}
	targets := make(map[uint16][]Target)
	added := make(map[localTarget]bool) // several ports of a spec may share a target
	add := func(local uint16, e Endpoint, target uint16) {
		if key := (localTarget{local, e.Pod}); !added[key] {
			added[key] = true
			targets[local] = append(targets[local], Target{
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
	targetPorts := maps.Clone(targets)
	specPorts := make(map[uint16]uint16) // by local port
	for _, p := range tcp {
		local := o.localPort(svc.ID, p.Number)
		if _, taken := targetPorts[local]; taken {
			continue
		}
		if other, taken := specPorts[local]; taken && other != p.Number {
			problems = append(problems, fmt.Sprintf("port %d: local port %d is already used by port %d; choose another mapping", p.Number, local, other))
			continue
		}
		specPorts[local] = p.Number
		if _, ok := targets[local]; !ok {
			targets[local] = nil // listens even before there are pods
		}
		for _, e := range endpoints {
			if target, ok := e.Ports[p.Name]; ok {
				add(local, e, target)
			}
		}
	}
	for local, t := range targets {
		all = append(all, Port{Number: local, Targets: t})
	}
	slices.SortFunc(all, func(a, b Port) int { return cmp.Compare(a.Number, b.Number) })
	return all, problems
}
