package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// clusterDomain is the domain that names of Services are in. What another one
// is called nobody outside the cluster can find out.
const clusterDomain = "cluster.local"

// names returns all the names of a host, the fully qualified one first, so
// that it is the canonical name as in the cluster. There are no more of them
// than need be: each one makes every lookup on the machine slower.
func (o Options) names(id HostID) []string {
	context, i := o.of(id.Service.Context)
	bare := id.Service.Name
	if id.Pod != "" {
		bare = id.Pod + "." + bare
	}
	short := bare + "." + id.Service.Namespace
	if i > 0 {
		return o.inDomain([]string{short + ".svc." + context.Alias, short + "." + context.Alias}, 1)
	}
	all := []string{short + ".svc." + clusterDomain, short + ".svc", short}
	if id.Service.Namespace == context.Namespace {
		all = append(all, bare)
	}
	return o.inDomain(all, 2)
}

// inDomain adds the names from the one given on with the user's own domain.
func (o Options) inDomain(names []string, from int) []string {
	if o.Domain != "" {
		for _, name := range names[from:] {
			names = append(names, name+"."+o.Domain)
		}
	}
	return names
}

// claim is a name that a host would have.
type claim struct {
	name string
	rank rank
	host int // its index
}

// rank is how good a claim is; the lowest gets the name.
type rank int

const (
	given      rank = iota // the user gave the host that name
	ofService              // it is a Service's own
	ofPod                  // a pod's of a headless Service
	ofExternal             // an ExternalName Service's that stands for the host
	ofIngress              // an Ingress routes it
)

// settleNames gives each name to one host. The pod db-0 of the headless Service
// web is called db-0.web where its namespace is the first, and so is the
// Service db-0 of a namespace web. The rank of a claim decides, then the order
// of contexts, then that of hosts.
func (p *planner) settleNames() {
	slices.SortStableFunc(p.claims, func(a, b claim) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(p.order(a.host), p.order(b.host)), p.hosts[a.host].ID.Compare(p.hosts[b.host].ID))
	})
	owner := make(map[string]int, len(p.claims))
	for _, c := range p.claims {
		first, taken := owner[c.name]
		h := &p.hosts[c.host]
		switch {
		case !taken:
			owner[c.name] = c.host
			h.Names = append(h.Names, c.name)
		case first != c.host:
			h.Problems = append(h.Problems, fmt.Sprintf("the name %s goes to %s instead", c.name, p.hosts[first].ID.In(p.clusters)))
		}
	}
	for i := range p.hosts {
		if h := &p.hosts[i]; len(h.Names) > 0 {
			p.canonicalFirst(h)
		}
	}
}

// canonicalFirst puts the fully qualified name first, if the host has it: names
// that the user gave come before it else.
func (p *planner) canonicalFirst(h *Host) {
	canonical := p.options.names(h.ID)[0]
	if i := slices.Index(h.Names, canonical); i > 0 {
		h.Names = slices.Insert(slices.Delete(h.Names, i, i+1), 0, canonical)
	}
}

func (p *planner) order(host int) int {
	_, i := p.options.of(p.hosts[host].ID.Service.Context)
	return i
}

// claimAll notes that a host would have names.
func (p *planner) claimAll(host int, rank rank, names []string) {
	for _, name := range names {
		p.claims = append(p.claims, claim{name, rank, host})
	}
}

// claimExternal gives the names of ExternalName Services that stand for another
// host of the same cluster to that host.
func (p *planner) claimExternal(external map[ServiceID]string) {
	for i := range p.hosts {
		h := &p.hosts[i]
		name, ok := external[h.ID.Service]
		if !ok || h.ID.Pod != "" || h.Local {
			continue
		}
		to, ok := p.standsFor(h.ID.Service.Context, name, external)
		if !ok {
			where := "which is not among the forwarded services"
			if _, inside := parseName(h.ID.Service.Context, name); !inside {
				where = "outside the cluster"
			}
			h.Limits = append(h.Limits, fmt.Sprintf("it stands for %s, %s; nothing to forward", name, where))
			continue
		}
		h.AliasOf = p.hosts[to].ID
		p.claimAll(to, given, p.options.Services[h.ID.Service].Names)
		p.claimAll(to, ofExternal, p.options.names(h.ID))
	}
}

// standsFor returns the host with ports that a name of a cluster leads to.
func (p *planner) standsFor(context, name string, external map[ServiceID]string) (host int, ok bool) {
	for range 8 { // one may stand for another, and in a circle too
		id, ok := parseName(context, name)
		if !ok {
			return 0, false
		}
		if host, ok := p.byID[id]; ok && p.hosts[host].Answers() {
			return host, true
		}
		name, ok = external[id.Service]
		if !ok || id.Pod != "" {
			return 0, false
		}
	}
	return 0, false
}

// parseName reads a fully qualified name of a cluster.
func parseName(context, name string) (HostID, bool) {
	short, ok := strings.CutSuffix(strings.ToLower(strings.TrimSuffix(name, ".")), ".svc."+clusterDomain)
	labels := strings.Split(short, ".")
	switch {
	case ok && len(labels) == 2:
		return HostID{Service: ServiceID{context, labels[1], labels[0]}}, true
	case ok && len(labels) == 3:
		return HostID{Service: ServiceID{context, labels[2], labels[1]}, Pod: labels[0]}, true
	}
	return HostID{}, false
}

// claimIngresses gives hosts that Ingresses route to the Services that these
// are reached through.
func (p *planner) claimIngresses(ingresses []Ingress) {
	for _, ingress := range ingresses {
		context, i := p.options.of(ingress.ID.Context)
		if i < 0 {
			continue
		}
		controllers := ingress.Controllers
		if context.Controller != (ServiceID{}) {
			controllers = []ServiceID{context.Controller}
		}
		host, ok := p.controller(controllers)
		for _, name := range ingress.Hosts {
			switch {
			case strings.HasPrefix(name, "*."):
				p.problem(ingress.ID, fmt.Sprintf("host %s: a hosts file has no wildcards; give the names that you need to the controller's service in the project's file", name))
			case !ok:
				p.problem(ingress.ID, fmt.Sprintf("host %s: %s", name, noController(controllers)))
			default:
				p.claims = append(p.claims, claim{name, ofIngress, host})
			}
		}
	}
}

// controller returns the first of the Services that is forwarded.
func (p *planner) controller(ids []ServiceID) (host int, ok bool) {
	for _, id := range ids {
		if host, ok := p.byID[HostID{Service: id}]; ok && p.hosts[host].Answers() {
			return host, true
		}
	}
	return 0, false
}

func noController(ids []ServiceID) string {
	if len(ids) == 0 {
		return "its status leads to no service that can be read; name its controller's in the project's file (ingressController)"
	}
	return fmt.Sprintf("its controller's service %s is not among the forwarded ones", ids[0])
}

// problem notes what is wrong with an Ingress. It is the cluster's.
func (p *planner) problem(id ServiceID, text string) {
	for i := range p.clusters {
		if c := &p.clusters[i]; c.Context == id.Context {
			c.Problems = append(slices.Clip(c.Problems), fmt.Sprintf("ingress %s: %s", id, text))
		}
	}
}
