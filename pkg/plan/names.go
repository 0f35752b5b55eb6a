package plan

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/kubeshore/kubeshore/internal/namepolicy"
)

// clusterDomain is the DNS domain of Services. A cluster with a different one
// doesn't reveal it to clients outside.
const clusterDomain = "cluster.local"

// IsShort reports whether name is one of the short names of a host, which programs
// use, e.g. web.shop: one without the domain of a cluster's Services. Names outside
// the first context all count as short.
func IsShort(name string) bool { return !namepolicy.IsClusterName(name) }

// names returns all names of a host, the fully qualified name first, so that it
// is the canonical name as in the cluster. The list is as short as possible:
// each entry of the hosts file slows down every lookup on the machine.
func (o Options) names(id HostID) []string {
	context, i := o.context(id.Service.Context)
	bare := id.Service.Name
	if id.Pod != "" {
		bare = id.Pod + "." + bare
	}
	short := bare + "." + id.Service.Namespace
	switch {
	case i > 0 && o.Names.Full:
		return []string{short + ".svc." + context.Alias}
	case i > 0:
		return o.addDomain([]string{short + ".svc." + context.Alias, short + "." + context.Alias}, 1)
	case o.Names.Full:
		return []string{short + ".svc." + clusterDomain, short + ".svc"}
	}
	all := []string{short + ".svc." + clusterDomain, short + ".svc", short}
	if id.Service.Namespace == context.Namespace {
		all = append(all, bare)
	}
	return o.addDomain(all, 2)
}

// addDomain appends a copy of names[from:] with the user's domain as a suffix.
func (o Options) addDomain(names []string, from int) []string {
	if o.Domain == "" {
		return names
	}
	for _, name := range names[from:] {
		names = append(names, name+"."+o.Domain)
	}
	return names
}

// assignNames gives each name to one host. Names can collide: the pod db-0 of
// the headless Service web is db-0.web in the first namespace, and so is the
// Service db-0 of a namespace web. The rank of the claims decides, then the
// order of the contexts, then that of the hosts.
func (p *planner) assignNames() {
	slices.SortStableFunc(p.claims, func(a, b claim) int {
		return cmp.Or(
			cmp.Compare(a.rank, b.rank),
			cmp.Compare(p.contextOrder(a.host), p.contextOrder(b.host)),
			p.hosts[a.host].ID.Compare(p.hosts[b.host].ID),
		)
	})
	owners := make(map[string]int, len(p.claims))
	var budget nameBudget
	omitted := make(map[int]int)         // number of names by host
	collisions := make(map[int][]string) // problems by host
	for _, c := range p.claims {
		owner, taken := owners[c.name]
		h := &p.hosts[c.host]
		switch {
		case !taken && !budget.spend(c.name):
			omitted[c.host]++
			h.LostNames = append(h.LostNames, c.name)
		case !taken:
			owners[c.name] = c.host
			h.Names = append(h.Names, c.name)
		case owner != c.host:
			h.LostNames = append(h.LostNames, c.name)
			collisions[c.host] = append(collisions[c.host], fmt.Sprintf("name %s is already used by %s", c.name, p.hosts[owner].ID.DisplayName(p.clusters)))
		}
	}
	for i, problems := range collisions {
		h := &p.hosts[i]
		h.Problems = append(h.Problems, listed(problems, "names")...)
	}
	for i, n := range omitted {
		h := &p.hosts[i]
		h.Problems = append(h.Problems, fmt.Sprintf("%d names left out: all services together have too many; select fewer (-n, --include, --exclude)", n))
	}
	for i := range p.hosts {
		if h := &p.hosts[i]; len(h.Names) > 0 {
			p.ownNamesFirst(h)
		}
	}
}

// ownNamesFirst moves the host's own names, in the order of ownNames, ahead
// of the user's and of those of aliases, which may have been assigned before them.
// Resolvers and systems that ignore the end of a long line don't lose them then.
func (p *planner) ownNamesFirst(h *Host) {
	own := p.ownNames(*h)
	position := func(name string) int {
		if i := slices.Index(own, name); i >= 0 {
			return i
		}
		return len(own)
	}
	slices.SortStableFunc(h.Names, func(a, b string) int { return cmp.Compare(position(a), position(b)) })
}

// contextOrder returns the index of the host's context.
func (p *planner) contextOrder(host int) int {
	_, i := p.options.context(p.hosts[host].ID.Service.Context)
	return i
}

// claimOwnNames claims the own names of all addressable hosts.
func (p *planner) claimOwnNames() {
	for i, h := range p.hosts {
		if !h.Addressable() {
			continue
		}
		r := rankService
		if h.ID.Pod != "" {
			r = rankPod
		} else {
			p.claimAll(i, i, rankUser, p.options.Services[h.ID.Service].Names)
		}
		p.claimAll(i, i, r, p.ownNames(h))
	}
}
