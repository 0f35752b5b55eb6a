package plan

import (
	"fmt"
	"slices"
)

// unknownRefs notes what the user says of Services that aren't there: most likely it
// is written wrongly. It is the cluster's problem, as long as it is so.
func (p *planner) unknownRefs(services []Service) {
	byContext := make(map[string]map[ServiceID]bool)
	for _, svc := range services {
		if byContext[svc.ID.Context] == nil {
			byContext[svc.ID.Context] = make(map[ServiceID]bool)
		}
		byContext[svc.ID.Context][svc.ID] = true
	}
	for i := range p.clusters {
		c := &p.clusters[i]
		there := byContext[c.Context]
		if len(there) == 0 { // that is said already
			continue
		}
		var missed []string
		context, _ := p.options.of(c.Context)
		for _, pattern := range context.Include {
			if !anyMatches(pattern, there) {
				missed = append(missed, fmt.Sprintf("include %q: no service in context %s is called so", pattern, c.Context))
			}
		}
		for id, said := range p.options.Services {
			if id.Context == c.Context && !there[id] && !said.Local {
				missed = append(missed, fmt.Sprintf("what is said of service %v: there is none of that name in context %s", id, c.Context))
			}
		}
		slices.Sort(missed)
		c.Problems = append(slices.Clip(c.Problems), missed...)
	}
}

func anyMatches(pattern string, services map[ServiceID]bool) bool {
	for id := range services {
		if matches(pattern, id) {
			return true
		}
	}
	return false
}

// unmapped says which ports that the user maps a Service doesn't have.
func unmapped(svc Service, mapping map[uint16]uint16) (problems []string) {
	for number, here := range mapping {
		if !slices.ContainsFunc(svc.Ports, func(p ServicePort) bool { return p.Number == number }) {
			problems = append(problems, fmt.Sprintf("it has no port %d, which is to be %d here", number, here))
		}
	}
	slices.Sort(problems)
	return problems
}
