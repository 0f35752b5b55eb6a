// Package plan computes the desired state of this machine from the state of the
// clusters and the user's options. It is pure: [Plan] depends on its arguments
// alone, and the package imports no logging, no synchronization and no clock.
package plan

import (
	"fmt"
	"slices"
)

// Plan returns the desired state for a snapshot. It is a pure function.
func Plan(s Snapshot, o Options) Desired {
	p := planner{options: o, clusters: slices.Clone(s.Clusters), refused: refusedDomains{byPolicy: make(map[string]bool), byKeeper: make(map[string]bool)}}
	for i := range p.clusters {
		if context, index := o.context(p.clusters[i].Context); index > 0 {
			p.clusters[i].Alias = context.Alias
		}
	}
	external := p.addHosts(s)
	slices.SortFunc(p.hosts, func(a, b Host) int { return a.ID.Compare(b.ID) })
	p.byID = make(map[HostID]int, len(p.hosts))
	for i := range p.hosts {
		p.byID[p.hosts[i].ID] = i
	}
	p.dropHosts()
	p.unknownRefs(s.Services)
	p.claimOwnNames()
	p.claimExternalNames(external)
	p.claimIngressHosts(s.Ingresses)
	p.assignNames()
	return Desired{Hosts: p.hosts, Clusters: p.clusters, Notes: p.nameNotes()}
}

// addHosts adds the hosts of all selected Services, and of local ones that the
// cluster doesn't have. It returns the external names of ExternalName Services.
func (p *planner) addHosts(s Snapshot) (external map[ServiceID]string) {
	external = make(map[ServiceID]string)
	controllers := make(map[ServiceID]bool)
	for _, ingress := range s.Ingresses {
		if id, ok := p.options.ingressController(ingress); ok {
			controllers[id] = true
		}
	}
	followed := p.options.followed(s.Services)
	planned := make(map[ServiceID]bool, len(s.Services))
	withPods := make([]*Service, 0, len(s.Services))
	for i, svc := range s.Services {
		context, index := p.options.context(svc.ID.Context)
		if index < 0 || planned[svc.ID] || !context.selects(svc.ID) && !controllers[svc.ID] && !followed[svc.ID] {
			continue
		}
		planned[svc.ID] = true
		p.hosts = append(p.hosts, planService(svc, p.options))
		if svc.ExternalName != "" {
			external[svc.ID] = svc.ExternalName
		}
		if len(svc.Endpoints) > 0 {
			withPods = append(withPods, &s.Services[i])
		}
	}
	for id, service := range p.options.Services {
		if _, i := p.options.context(id.Context); i >= 0 && service.Local && !planned[id] {
			p.hosts = append(p.hosts, planService(Service{ID: id}, p.options))
		}
	}
	p.addPods(withPods)
	return external
}

// planService returns the host of a Service, without its names.
func planService(svc Service, o Options) Host {
	configured := o.Services[svc.ID]
	if configured.Local {
		return Host{ID: HostID{Service: svc.ID}, Local: true}
	}
	host := Host{ID: HostID{Service: svc.ID}, Address: configured.Address, Denied: svc.Denied, Problems: slices.Clone(svc.Problems)}
	switch {
	case svc.ExternalName != "":
		return host // claimExternalNames resolves it
	case svc.isAPIServer():
		host.Limits = append(host.Limits, "the API server itself; use your kubeconfig")
		return host
	case svc.ExternalEndpoint != "":
		host.Limits = append(host.Limits, fmt.Sprintf("endpoints (e.g. %s) are not readable pods; nothing to forward", svc.ExternalEndpoint))
		return host
	case len(svc.Ports) == 0 && len(host.Problems) > 0:
		return host
	case len(svc.Ports) == 0:
		host.Limits = append(host.Limits, "the service has no ports; nothing to forward")
		return host
	case svc.Selectorless && len(svc.Endpoints)+len(host.Problems) == 0:
		host.Limits = append(host.Limits, "the service has neither a selector nor endpoints; nothing to forward")
		return host
	}
	host.countPods(svc.Endpoints)
	host.Problems = append(host.Problems, unknownMappings(svc, configured.Mapping)...)
	svc, omitted := firstPorts(svc)
	if omitted > 0 {
		host.Limits = append(host.Limits, fmt.Sprintf("the service has %d ports; only the first %d can be forwarded", omitted+len(svc.Ports), MaxHostPorts))
	}
	endpoints := usedEndpoints(svc.Endpoints, len(svc.Ports))
	if len(endpoints) < len(svc.Endpoints) {
		host.Limits = append(host.Limits, fmt.Sprintf("%d pods with %d ports; only %d pods at a time are used", len(svc.Endpoints), len(svc.Ports), len(endpoints)))
	}
	limits, problems := checkPorts(svc.Ports, endpoints)
	host.Limits, host.Problems = append(host.Limits, listed(limits, "ports")...), append(host.Problems, listed(problems, "ports")...)
	host.Ports, problems = planPorts(svc, endpoints, o)
	host.Problems = append(host.Problems, listed(problems, "ports")...)
	if text := o.unnamedPods(svc); text != "" {
		host.Limits = append(host.Limits, text)
	}
	if !svc.Headless { // affinity is a property of the cluster IP
		host.AffinityTimeout = svc.AffinityTimeout
	}
	return host
}

// isAPIServer reports whether a Service is the API server's own, whose endpoints are no
// pods but addresses of the control plane. Each cluster has it.
func (s Service) isAPIServer() bool {
	return s.ID.Namespace == "default" && s.ID.Name == "kubernetes" && s.Selectorless && len(s.Endpoints) == 0
}

// checkPorts returns the ports that can't be forwarded, and those that no endpoint
// has, a line each.
func checkPorts(ports []ServicePort, endpoints []Endpoint) (limits, problems []string) {
	for _, p := range ports {
		switch {
		case p.Protocol != "TCP":
			limits = append(limits, fmt.Sprintf("port %d is %s; only TCP can be forwarded", p.Number, p.Protocol))
		case len(endpoints) > 0 && !slices.ContainsFunc(endpoints, func(e Endpoint) bool { return e.Ports[p.Name] != 0 }):
			problems = append(problems, fmt.Sprintf("port %d: %s", p.Number, missingTarget(p)))
		}
	}
	return limits, problems
}

// countPods sets Ready and Pods. Terminating pods count only if there are no
// others.
func (h *Host) countPods(endpoints []Endpoint) {
	for _, e := range endpoints {
		if e.Ready {
			h.Ready++
		}
		if !e.Terminating {
			h.Pods++
		}
	}
	if h.Pods == 0 {
		h.Pods = len(endpoints)
	}
}

// missingTarget returns why no endpoint has a port of the Service.
func missingTarget(p ServicePort) string {
	if p.Target != "" {
		return fmt.Sprintf("targetPort %q matches no container port", p.Target)
	}
	return "no endpoint has this port"
}
