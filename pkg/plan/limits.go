package plan

import (
	"cmp"
	"fmt"
	"slices"
)

// Limits of a plan. Hosts and names that exceed them are left out, each with a
// problem, and the others are not affected. Whoever binds the ports and writes the
// names has limits of its own, because it trusts nobody (pkg/keeper, wire.go;
// pkg/listen); a test there checks that it accepts the largest plan.
const (
	// MaxHostPorts is the number of ports of one host. Services with a port range,
	// e.g. of media servers, have some hundreds.
	MaxHostPorts = 1 << 10
	// MaxHostTargets is the number of targets of one host: all of its ports and
	// pods, or fewer pods if that exceeds the limit.
	MaxHostTargets = 1 << 14
	// MaxPorts is the number of ports of all hosts, and so the number of
	// addresses.
	MaxPorts = 1 << 16
	// MaxNames is the number of names of all hosts, and MaxNamesSize their size in
	// a message (JSON) to the keeper.
	MaxNames     = 1 << 18
	MaxNamesSize = 12 << 20
	// maxIngressHosts is the number of hosts of one Ingress.
	maxIngressHosts = 1 << 10
	// maxLines is how many similar limits or problems of a host, or of a cluster's
	// Ingresses, are listed.
	maxLines = 8
)

// listed returns the first of several similar lines, and how many more there are: of
// what, in the plural.
func listed(lines []string, of string) []string {
	if len(lines) <= maxLines {
		return lines
	}
	return append(lines[:maxLines:maxLines], fmt.Sprintf("and %d more %s like these", len(lines)-maxLines, of))
}

// firstPorts returns the Service with its first ports only, and the number of ports
// that were left out.
func firstPorts(svc Service) (Service, int) {
	omitted := max(0, len(svc.Ports)-MaxHostPorts)
	svc.Ports = svc.Ports[:len(svc.Ports)-omitted]
	return svc, omitted
}

// usedEndpoints returns the endpoints that the ports of a Service lead to: all of
// them or, if these are too many, the first ones, ready ones first.
func usedEndpoints(endpoints []Endpoint, ports int) []Endpoint {
	limit := MaxHostTargets / max(1, ports)
	if len(endpoints) <= limit {
		return endpoints
	}
	byReadiness := func(a, b Endpoint) int { return cmp.Compare(unready(a), unready(b)) }
	return slices.SortedStableFunc(slices.Values(endpoints), byReadiness)[:limit]
}

func unready(e Endpoint) int {
	switch {
	case e.Ready:
		return 0
	case e.Serving:
		return 1
	}
	return 2
}

// dropHosts takes the ports of the last hosts away if all hosts together have more
// than MaxPorts. Services come before pods, the first context before others, and
// hosts with few ports before those with many, which cause the excess.
func (p *planner) dropHosts() {
	total := 0
	order := make([]int, len(p.hosts))
	for i := range p.hosts {
		order[i] = i
		total += len(p.hosts[i].Ports)
	}
	if total <= MaxPorts {
		return
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := &p.hosts[a], &p.hosts[b]
		return cmp.Or(
			cmp.Compare(min(len(x.ID.Pod), 1), min(len(y.ID.Pod), 1)),
			cmp.Compare(p.contextOrder(a), p.contextOrder(b)),
			cmp.Compare(len(x.Ports), len(y.Ports)),
			x.ID.Compare(y.ID),
		)
	})
	total = 0
	for _, i := range order {
		h := &p.hosts[i]
		if total += len(h.Ports); total > MaxPorts {
			total -= len(h.Ports)
			h.Problems = append(h.Problems, fmt.Sprintf("not forwarded: all services together have more than %d ports; select fewer (-n, --include, --exclude)", MaxPorts))
			h.Ports = nil
		}
	}
}

// nameBudget counts the names of a plan.
type nameBudget struct{ names, size int }

// spend reports whether one more name is within the limits, and counts it.
func (b *nameBudget) spend(name string) bool {
	size := len(name) + len(`"":"",`) // with an empty reason, in the keeper's response
	if b.names >= MaxNames || b.size+size > MaxNamesSize {
		return false
	}
	b.names++
	b.size += size
	return true
}
