package plan

import (
	"fmt"
	"strings"

	"github.com/kubeshore/kubeshore/internal/dnsname"
)

// maxAliasDepth bounds chains of ExternalName Services, which may be circular.
const maxAliasDepth = 8

// followed returns the Services that selected ExternalName Services refer to,
// directly or through others. They are forwarded even if the user's Include
// doesn't match them or their namespace isn't forwarded, but not if Exclude does.
func (o Options) followed(services []Service) map[ServiceID]bool {
	external := make(map[ServiceID]string)
	for _, svc := range services {
		if svc.ExternalName != "" {
			external[svc.ID] = svc.ExternalName
		}
	}
	followed := make(map[ServiceID]bool)
	for id, name := range external {
		context, i := o.context(id.Context)
		if i < 0 || !context.selects(id) {
			continue
		}
		for range maxAliasDepth {
			target, ok := ParseClusterName(id.Context, name)
			if !ok || context.excludes(target.Service) {
				break
			}
			followed[target.Service] = true
			name = external[target.Service]
		}
	}
	return followed
}

// unresolved returns why the ExternalName of a Service refers to no forwarded one.
func (p *planner) unresolved(contextName, name string) string {
	id, ok := ParseClusterName(contextName, name)
	context, _ := p.options.context(contextName)
	host, planned := p.byID[HostID{Service: id.Service}]
	switch {
	case !ok:
		return "is outside the cluster"
	case context.excludes(id.Service):
		return "is not a forwarded service: it is excluded"
	case planned && len(p.hosts[host].Problems)+len(p.hosts[host].Limits) > 0 && id.Pod == "":
		return fmt.Sprintf("is not a forwarded service: see %v", id.Service)
	case planned:
		return "is not a forwarded service"
	}
	return fmt.Sprintf("is not a forwarded service: %v doesn't exist, or you aren't allowed to read it", id.Service)
}

// claimExternalNames claims the names of ExternalName Services for the hosts of
// the same cluster that they refer to. external maps the Services to their
// external names.
func (p *planner) claimExternalNames(external map[ServiceID]string) {
	for i := range p.hosts {
		h := &p.hosts[i]
		name, ok := external[h.ID.Service]
		if !ok || h.ID.Pod != "" || h.Local {
			continue
		}
		target, ok := p.resolveExternal(h.ID.Service.Context, name, external)
		if !ok {
			h.Limits = append(h.Limits, fmt.Sprintf("ExternalName %s %s", name, p.unresolved(h.ID.Service.Context, name)))
			continue
		}
		h.AliasOf = p.hosts[target].ID
		p.claimAll(i, target, rankUser, p.options.Services[h.ID.Service].Names)
		p.claimAll(i, target, rankExternal, p.options.names(h.ID))
	}
}

// resolveExternal returns the addressable host that a cluster's DNS name refers
// to, directly or through other ExternalName Services.
func (p *planner) resolveExternal(context, name string, external map[ServiceID]string) (host int, ok bool) {
	for range maxAliasDepth {
		id, ok := ParseClusterName(context, name)
		if !ok {
			return 0, false
		}
		if host, ok := p.byID[id]; ok && p.hosts[host].Addressable() {
			return host, true
		}
		name, ok = external[id.Service]
		if !ok || id.Pod != "" {
			return 0, false
		}
	}
	return 0, false
}

// ParseClusterName parses the fully qualified DNS name of a Service or a pod of a
// cluster.
func ParseClusterName(context, name string) (HostID, bool) {
	short, ok := strings.CutSuffix(strings.ToLower(strings.TrimSuffix(name, ".")), ".svc."+clusterDomain)
	labels := strings.Split(short, ".")
	switch {
	case !dnsname.IsName(short):
		return HostID{}, false
	case ok && len(labels) == 2:
		return HostID{Service: ServiceID{context, labels[1], labels[0]}}, true
	case ok && len(labels) == 3:
		return HostID{Service: ServiceID{context, labels[2], labels[1]}, Pod: labels[0]}, true
	}
	return HostID{}, false
}
