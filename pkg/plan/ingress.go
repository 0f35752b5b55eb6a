package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kubeshore/kubeshore/internal/namepolicy"
)

// ingressHosts returns the hosts of an Ingress that the user selected.
func (o Options) ingressHosts(ingress Ingress) []string {
	return slices.DeleteFunc(slices.Clone(ingress.Hosts), func(host string) bool { return !matchesName(o.Ingress, host) })
}

func matchesName(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return namepolicy.Match(pattern, name) })
}

// ingressController returns the Service that serves an Ingress: the one that the
// user configured, or the only one that its load-balancer status refers to. If
// there are several, any of them could belong to somebody who wants the hosts.
func (o Options) ingressController(ingress Ingress) (id ServiceID, ok bool) {
	context, i := o.context(ingress.ID.Context)
	switch {
	case i < 0 || len(o.ingressHosts(ingress)) == 0:
		return ServiceID{}, false
	case context.IngressController != (ServiceID{}):
		return context.IngressController, true
	case len(ingress.Controllers) == 1:
		return ingress.Controllers[0], true
	}
	return ServiceID{}, false
}

// claimIngressHosts claims the selected hosts of Ingresses for the Services of
// their controllers.
func (p *planner) claimIngressHosts(ingresses []Ingress) {
	ambiguous := make(map[string]bool) // contexts that have this problem already
	for _, ingress := range ingresses {
		hosts := p.options.ingressHosts(ingress)
		if _, i := p.options.context(ingress.ID.Context); i < 0 {
			continue
		}
		id, known := p.options.ingressController(ingress)
		if len(hosts) > 0 && !known && len(ingress.Controllers) > 1 {
			if !ambiguous[ingress.ID.Context] {
				p.ingressProblem(ingress.ID, hosts[0], ambiguousController(ingress.Controllers))
			}
			ambiguous[ingress.ID.Context] = true
			continue
		}
		controller, ok := p.byID[HostID{Service: id}]
		ok = ok && p.hosts[controller].Addressable()
		for _, name := range hosts {
			switch {
			case strings.HasPrefix(name, "*."):
				p.ingressProblem(ingress.ID, name, "hosts files don't support wildcards; list the names you need under the controller's service in kubeshore.yaml")
			case !known:
				p.ingressProblem(ingress.ID, name, "no readable service matches the ingress's load-balancer status; set ingressController in kubeshore.yaml")
			case !ok:
				p.ingressProblem(ingress.ID, name, fmt.Sprintf("controller service %s is not forwarded", id))
			default:
				if refusal := p.check(name, rankIngress); refusal != nil {
					p.ingressProblem(ingress.ID, name, "not written: "+refusal.Why)
					continue
				}
				p.claims = append(p.claims, claim{name, rankIngress, controller})
			}
		}
	}
}

// ambiguousController returns why none of several controllers is chosen.
func ambiguousController(ids []ServiceID) string {
	return fmt.Sprintf("the load-balancer status matches %d services (e.g. %s and %s), so no hosts of such ingresses are written; set ingressController in kubeshore.yaml",
		len(ids), ids[0], ids[1])
}

// ingressProblem adds a problem with a host of an Ingress to its cluster.
func (p *planner) ingressProblem(id ServiceID, host, text string) {
	for i := range p.clusters {
		if c := &p.clusters[i]; c.Context == id.Context {
			c.Problems = append(slices.Clip(c.Problems), fmt.Sprintf("ingress %s: host %s: %s", id, host, text))
		}
	}
}
