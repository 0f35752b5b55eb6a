package plan

import (
	"fmt"
	"slices"
)

// unknownRefs adds a problem to the cluster for each reference of the user to a
// Service that doesn't exist, which is most likely a typo. A cluster without any
// Services is skipped: other messages cover that case.
func (p *planner) unknownRefs(services []Service) {
	existing := make(map[string]map[ServiceID]bool) // by context
	for _, svc := range services {
		if existing[svc.ID.Context] == nil {
			existing[svc.ID.Context] = make(map[ServiceID]bool)
		}
		existing[svc.ID.Context][svc.ID] = true
	}
	for i := range p.clusters {
		c := &p.clusters[i]
		ids := existing[c.Context]
		if len(ids) == 0 {
			continue
		}
		var unknown []string
		context, _ := p.options.context(c.Context)
		for _, pattern := range context.Include {
			if !matchesAny(pattern, ids) {
				unknown = append(unknown, fmt.Sprintf("include %q matches no service in context %s", pattern, c.Context))
			}
		}
		for id, o := range p.options.Services {
			if id.Context == c.Context && !ids[id] && !o.Local {
				unknown = append(unknown, fmt.Sprintf("kubeshore.yaml: service %v doesn't exist in context %s", id, c.Context))
			}
		}
		slices.Sort(unknown)
		c.Problems = append(slices.Clip(c.Problems), unknown...)
	}
}

func matchesAny(pattern string, services map[ServiceID]bool) bool {
	for id := range services {
		if matches(pattern, id) {
			return true
		}
	}
	return false
}

// unknownMappings returns a problem for each mapping of a port that the Service
// doesn't have.
func unknownMappings(svc Service, mapping map[uint16]uint16) (problems []string) {
	for number, local := range mapping {
		if !slices.ContainsFunc(svc.Ports, func(p ServicePort) bool { return p.Number == number }) {
			problems = append(problems, fmt.Sprintf("mapping %d:%d: the service has no port %d", number, local, number))
		}
	}
	slices.Sort(problems)
	return problems
}
