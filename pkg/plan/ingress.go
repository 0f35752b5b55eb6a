package plan

import (
	"cmp"
	"fmt"
	"maps"
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
	problems := make(map[ingressProblem][]string)
	for _, ingress := range ingresses {
		if _, i := p.options.context(ingress.ID.Context); i >= 0 {
			p.claimHostsOf(ingress, problems)
		}
	}
	kinds := slices.SortedFunc(maps.Keys(problems), func(a, b ingressProblem) int { return cmp.Compare(a.kind, b.kind) })
	for i := range p.clusters {
		c := &p.clusters[i]
		c.Problems = slices.Clip(c.Problems) // the snapshot's
		for _, kind := range kinds {
			if kind.context == c.Context {
				c.Problems = append(c.Problems, listed(problems[kind], "ingress hosts")...)
			}
		}
	}
}

// ingressProblem is a kind of problem with hosts of a context's Ingresses. A user who may
// create Ingresses can cause any number of each.
type ingressProblem struct{ context, kind string }

// claimHostsOf claims the selected hosts of an Ingress, and adds the problems with the
// others.
func (p *planner) claimHostsOf(ingress Ingress, problems map[ingressProblem][]string) {
	hosts := p.options.ingressHosts(ingress)
	add := func(kind, host, text string) {
		at := ingressProblem{ingress.ID.Context, kind}
		problems[at] = append(problems[at], fmt.Sprintf("ingress %s: host %s: %s", ingress.ID, host, text))
	}
	id, known := p.options.ingressController(ingress)
	if len(hosts) > 0 && !known && len(ingress.Controllers) > 1 {
		if kind := "ambiguous"; len(problems[ingressProblem{ingress.ID.Context, kind}]) == 0 {
			add(kind, hosts[0], ambiguousController(ingress.Controllers))
		}
		return
	}
	if len(hosts) > maxIngressHosts {
		add("excess", hosts[maxIngressHosts], fmt.Sprintf("not written, like those after it: the ingress has %d hosts; only the first %d are written", len(hosts), maxIngressHosts))
		hosts = hosts[:maxIngressHosts]
	}
	controller, ok := p.byID[HostID{Service: id}]
	ok = ok && p.hosts[controller].Addressable()
	for _, name := range hosts {
		switch {
		case strings.HasPrefix(name, "*."):
			add("wildcard", name, "hosts files don't support wildcards; list the names you need under the controller's service in kubeshore.yaml")
		case !known:
			add("no controller", name, "no readable service matches the ingress's load-balancer status; set ingressController in kubeshore.yaml")
		case !ok:
			add("not forwarded", name, fmt.Sprintf("controller service %s is not forwarded", id))
		default:
			if refusal := p.check(name, rankIngress); refusal != nil {
				add(refusal.Why, name, "not written: "+refusal.Why)
				continue
			}
			p.claims = append(p.claims, claim{name, rankIngress, controller})
		}
	}
}

// ambiguousController returns why none of several controllers is chosen.
func ambiguousController(ids []ServiceID) string {
	return fmt.Sprintf("the load-balancer status matches several services (e.g. %s and %s), so no hosts of such ingresses are written; set ingressController in kubeshore.yaml",
		ids[0], ids[1])
}
