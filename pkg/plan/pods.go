package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/kubeshore/kubeshore/internal/dnsname"
)

const (
	// maxNamedPods is the number of pods up to which the pods of a Service with a
	// cluster IP have names, unless the user decided. Each pod takes an address, its
	// ports and a line of the hosts file, and each line slows down every lookup on
	// the machine; few programs use these names.
	maxNamedPods = 16
	// maxImplicitPods is the number of such pods of all Services together.
	maxImplicitPods = 256
	// maxHeadlessPods is the number of pods of a headless Service that have names,
	// unless the user decided, and maxPods that of all Services together: a user who
	// may write EndpointSlices can make up any number, and each lookup on the machine
	// reads all lines.
	maxHeadlessPods = 1024
	maxPods         = 8192
)

// namesPods reports whether the pods of a Service get names, and whether that is
// so without a request of the user and without the pods being the Service's only
// addresses.
func (o Options) namesPods(svc Service) (named, implicit bool) {
	switch configured := o.Services[svc.ID]; {
	case configured.Local || len(svc.Endpoints) == 0:
		return false, false
	case configured.PodNames != nil:
		return *configured.PodNames, false
	case svc.Headless:
		return true, false
	}
	return len(svc.Endpoints) <= maxNamedPods, true
}

// unnamedPods returns the limit of a Service whose pods are too many to have names;
// empty if they aren't.
func (o Options) unnamedPods(svc Service) string {
	if named, implicit := o.namesPods(svc); named || !implicit {
		return ""
	}
	return fmt.Sprintf("its %d pods have no names of their own (more than %d); podNames: true in kubeshore.yaml adds them", len(svc.Endpoints), maxNamedPods)
}

// addPods adds the hosts of the pods of Services, as many as the limits permit. The host
// of a Service reports those that are left out.
func (p *planner) addPods(services []*Service) {
	slices.SortFunc(services, func(a, b *Service) int {
		_, i := p.options.context(a.ID.Context)
		_, j := p.options.context(b.ID.Context)
		return cmp.Or(cmp.Compare(i, j), a.ID.Compare(b.ID))
	})
	p.dashed = make(map[HostID]string)
	ports, pods, implicitPods := 0, 0, 0
	for _, svc := range services {
		named, implicit := p.options.namesPods(*svc)
		if !named {
			continue
		}
		if implicit && implicitPods+len(svc.Endpoints) > maxImplicitPods {
			p.addLimit(svc.ID, fmt.Sprintf("its %d pods have no names of their own, because %d pods of other services have; podNames: true in kubeshore.yaml adds them",
				len(svc.Endpoints), implicitPods))
			continue
		}
		room, remedy := maxPods-pods, "select fewer services (-n, --include, --exclude)"
		if p.options.Services[svc.ID].PodNames == nil && svc.Headless && room > maxHeadlessPods {
			room, remedy = maxHeadlessPods, "podNames: true in kubeshore.yaml adds the others"
		}
		hosts, omitted := p.planPods(*svc, implicit, MaxPorts-ports, room)
		if omitted > 0 {
			p.addLimit(svc.ID, fmt.Sprintf("%d of its pods have no names of their own, because there are too many; %s", omitted, remedy))
		}
		for _, host := range hosts {
			p.hosts = append(p.hosts, host)
			ports += len(host.Ports)
			pods++
			if implicit {
				implicitPods++
			}
		}
	}
}

// addLimit adds a limit to the host of a Service.
func (p *planner) addLimit(id ServiceID, text string) {
	if i := slices.IndexFunc(p.hosts, func(h Host) bool { return h.ID == HostID{Service: id} }); i >= 0 {
		p.hosts[i].Limits = append(p.hosts[i].Limits, text)
	}
}

// planPods returns a host for each pod of a Service, at most maxHosts, with at most
// maxPorts ports and those of one more pod, and how many are left out. A host is identified by the pod's host name or, without
// one, by the pod's name, because the pod's address may soon be another's. The host
// exists as long as the pod is an endpoint, ready or not, so that its name and
// address don't change while the pod restarts.
func (p *planner) planPods(svc Service, implicit bool, maxPorts, maxHosts int) (hosts []Host, omitted int) {
	byName := make(map[string][]Endpoint)
	for _, e := range svc.Endpoints {
		name := cmp.Or(e.Hostname, e.Pod.Name)
		byName[name] = append(byName[name], e)
	}
	svc.Headless = true // clients connect to the pod's address, and so to its ports
	svc, _ = firstPorts(svc)
	dashed := dashedNames(svc.Endpoints)
	planned := make(map[string]bool, len(byName))
	for _, e := range svc.Endpoints {
		name := cmp.Or(e.Hostname, e.Pod.Name)
		if planned[name] {
			continue
		}
		planned[name] = true
		if maxPorts < 0 || len(hosts) >= maxHosts {
			omitted++
			continue
		}
		host := Host{ID: HostID{Service: svc.ID, Pod: name}, Implicit: implicit, Denied: svc.Denied}
		host.Ports, _ = planPorts(svc, usedEndpoints(byName[name], len(svc.Ports)), p.options)
		if e.Hostname == "" {
			p.dashed[host.ID] = dashed[e.Pod]
		}
		if len(host.Ports) == 0 || len(p.ownNames(host)) == 0 {
			continue // the host of the Service has the problem
		}
		maxPorts -= len(host.Ports)
		host.countPods(byName[name])
		hosts = append(hosts, host)
	}
	return hosts, omitted
}

// dashedNames returns the DNS labels of pods without a host name: their addresses
// with dashes (CoreDNS, plugin/kubernetes, endpointHostname). Of pods with the same
// address, which are on their node's network or not there any more, one has it.
func dashedNames(endpoints []Endpoint) map[PodRef]string {
	owners := make(map[netip.Addr]Endpoint, len(endpoints))
	for _, e := range endpoints {
		owner, taken := owners[e.Address]
		if e.Hostname == "" && e.Address.IsValid() && (!taken || precedes(e, owner)) {
			owners[e.Address] = e
		}
	}
	labels := make(map[PodRef]string, len(owners))
	for address, e := range owners {
		if label := strings.NewReplacer(".", "-", ":", "-").Replace(address.String()); dnsname.IsLabel(label) {
			labels[e.Pod] = label
		}
	}
	return labels
}

// precedes reports whether a is in a better state than b.
func precedes(a, b Endpoint) bool {
	if a.Terminating != b.Terminating {
		return b.Terminating
	}
	return unready(a) < unready(b)
}

// ownNames returns the names of a host that are its own, the canonical one first.
// That with a pod's address is fully qualified only, because programs have it from
// answers of the cluster's DNS. The pod's own name, which isn't in that DNS, is for
// people.
func (p *planner) ownNames(h Host) (names []string) {
	if h.ID.Pod == "" {
		return p.options.names(h.ID)
	}
	label, unnamed := p.dashed[h.ID]
	if label != "" {
		names = p.options.names(HostID{Service: h.ID.Service, Pod: label})[:1]
	}
	if dnsname.IsLabel(h.ID.Pod) && (!unnamed || !h.Implicit) {
		names = append(names, p.options.names(h.ID)...)
	}
	return names
}
