package kube

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubeshore/kubeshore/internal/dnsname"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// newServices joins Services and their EndpointSlices, as kube-proxy does. Of
// several objects of one name the first is used.
func newServices(contextName string, objects clusterObjects) []plan.Service {
	byService := make(map[plan.ServiceID][]*discoveryv1.EndpointSlice, len(objects.services))
	seen := make(map[types.NamespacedName]bool, len(objects.endpointSlices))
	for _, slice := range objects.endpointSlices {
		if seen[nameOf(slice)] {
			continue
		}
		seen[nameOf(slice)] = true
		id := plan.ServiceID{Context: contextName, Namespace: slice.Namespace, Name: slice.Labels[discoveryv1.LabelServiceName]}
		byService[id] = append(byService[id], slice)
	}
	services := make([]plan.Service, 0, len(objects.services))
	clear(seen)
	for _, service := range objects.services {
		if seen[nameOf(service)] {
			continue
		}
		seen[nameOf(service)] = true
		id := plan.ServiceID{Context: contextName, Namespace: service.Namespace, Name: service.Name}
		s := newService(id, service, byService[id])
		s.Denied = objects.denied[id.Namespace]
		services = append(services, s)
	}
	return services
}

// newIngresses returns the hosts of the Ingresses, and their controllers: the
// Services with the same address in their load-balancer status. A user who may
// create Services sets the addresses in their spec, but not those in their status.
func newIngresses(contextName string, objects clusterObjects) []plan.Ingress {
	ingresses := make([]plan.Ingress, 0, len(objects.ingresses))
	byAddress := make(map[string][]plan.ServiceID)
	for _, service := range objects.services {
		if !slices.ContainsFunc(service.Spec.Ports, servesWeb) {
			continue // load balancers may share an address: on k3s, their node's
		}
		id := plan.ServiceID{Context: contextName, Namespace: service.Namespace, Name: service.Name}
		for _, at := range service.Status.LoadBalancer.Ingress {
			for _, address := range []string{at.IP, at.Hostname} {
				byAddress[address] = addController(byAddress[address], id)
			}
		}
	}
	for _, ingress := range objects.ingresses {
		i := plan.Ingress{
			ID:    plan.ServiceID{Context: contextName, Namespace: ingress.Namespace, Name: ingress.Name},
			Hosts: ruleHosts(ingress.Spec.Rules),
		}
		for _, at := range ingress.Status.LoadBalancer.Ingress {
			for _, address := range []string{at.IP, at.Hostname} {
				if address == "" {
					continue
				}
				for _, id := range byAddress[address] {
					i.Controllers = addController(i.Controllers, id)
				}
			}
		}
		ingresses = append(ingresses, i)
	}
	slices.SortFunc(ingresses, func(a, b plan.Ingress) int { return a.ID.Compare(b.ID) })
	return ingresses
}

// maxControllers is how many controllers of an Ingress are kept: two, as none of
// several is used. So the time for a status with many addresses is linear.
const maxControllers = 2

// addController adds a Service to sorted ones and returns the first ones of these.
func addController(ids []plan.ServiceID, id plan.ServiceID) []plan.ServiceID {
	i, found := slices.BinarySearchFunc(ids, id, plan.ServiceID.Compare)
	if found || i == maxControllers {
		return ids
	}
	ids = slices.Insert(ids, i, id)
	return ids[:min(len(ids), maxControllers)]
}

// ruleHosts returns the valid hosts of rules, each once.
func ruleHosts(rules []networkingv1.IngressRule) (hosts []string) {
	seen := make(map[string]bool, len(rules))
	for _, rule := range rules {
		if isIngressHost(rule.Host) && !seen[rule.Host] {
			seen[rule.Host] = true
			hosts = append(hosts, rule.Host)
		}
	}
	return hosts
}

// servesWeb reports whether a port is the default one of HTTP or HTTPS.
func servesWeb(p corev1.ServicePort) bool {
	return (p.Port == 80 || p.Port == 443) && (p.Protocol == "" || p.Protocol == corev1.ProtocolTCP)
}

func newService(id plan.ServiceID, service *corev1.Service, endpointSlices []*discoveryv1.EndpointSlice) plan.Service {
	result := plan.Service{
		ID:              id,
		Headless:        service.Spec.ClusterIP == corev1.ClusterIPNone,
		Selectorless:    len(service.Spec.Selector) == 0,
		Ports:           newPorts(service.Spec.Ports),
		AffinityTimeout: newAffinity(service.Spec),
	}
	result.Endpoints, result.Problems = newEndpoints(id, endpointSlices, portNames(result.Ports))
	if len(result.Endpoints) == 0 {
		result.ExternalEndpoint = outsideAddress(endpointSlices)
	}
	if name := service.Spec.ExternalName; service.Spec.Type == corev1.ServiceTypeExternalName {
		if dnsname.IsName(strings.ToLower(strings.TrimSuffix(name, "."))) {
			result.ExternalName = name
		} else {
			result.Problems = append(result.Problems, fmt.Sprintf("invalid externalName %.*q", dnsname.MaxName, name))
		}
	}
	return result
}

// newPorts returns the valid ports of a Service.
func newPorts(all []corev1.ServicePort) (ports []plan.ServicePort) {
	for _, p := range all {
		number, ok := portNumber(p.Port)
		protocol := cmp.Or(p.Protocol, corev1.ProtocolTCP)
		if !ok || !isPortName(p.Name) || !isProtocol(protocol) {
			continue
		}
		ports = append(ports, plan.ServicePort{Name: p.Name, Protocol: string(protocol), Number: number, Target: p.TargetPort.StrVal})
	}
	return ports
}

// portNames returns the names of the ports of a Service that can be forwarded.
func portNames(ports []plan.ServicePort) map[string]bool {
	names := make(map[string]bool)
	for _, p := range ports[:min(len(ports), plan.MaxHostPorts)] {
		names[p.Name] = true
	}
	return names
}

// newAffinity returns the timeout of session affinity; 0 if the Service has none.
func newAffinity(spec corev1.ServiceSpec) time.Duration {
	if spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	seconds := corev1.DefaultClientIPServiceAffinitySeconds
	if c := spec.SessionAffinityConfig; c != nil && c.ClientIP != nil {
		seconds = deref(c.ClientIP.TimeoutSeconds, seconds)
	}
	return time.Duration(seconds) * time.Second
}

const (
	// maxEndpointProblems limits how many invalid endpoints of a Service are reported.
	maxEndpointProblems = 5
	// maxMergedPorts limits the ports of a Service's pods, all together, that are
	// merged from several slices: more than a plan uses.
	maxMergedPorts = 4 * plan.MaxHostTargets
)

// newEndpoints returns each pod of the slices once, with the ports that have one of
// the names, and what is wrong with endpoints that were left out, a line each. A pod
// is in several slices if it has addresses of both families, or if the numbers of its
// ports differ from those of other pods.
func newEndpoints(id plan.ServiceID, endpointSlices []*discoveryv1.EndpointSlice, names map[string]bool) (endpoints []plan.Endpoint, problems []string) {
	merged := endpointMerger{byPod: make(map[plan.PodRef]plan.Endpoint), owned: make(map[plan.PodRef]bool)}
	endpointSlices = slices.SortedFunc(slices.Values(endpointSlices), func(a, b *discoveryv1.EndpointSlice) int {
		return strings.Compare(a.Name, b.Name)
	})
	for _, slice := range endpointSlices {
		ports := slicePorts(slice, names)
		for _, e := range slice.Endpoints {
			if !isPod(e) {
				continue // port-forward needs a pod
			}
			pod, err := podOf(id, e.TargetRef)
			if err != nil {
				problems = append(problems, err.Error())
				continue
			}
			endpoint := newEndpoint(pod, e)
			endpoint.Ports = ports
			merged.add(endpoint)
		}
	}
	endpoints = slices.SortedFunc(maps.Values(merged.byPod), func(a, b plan.Endpoint) int {
		return cmp.Or(strings.Compare(a.Pod.Name, b.Pod.Name), strings.Compare(a.Pod.UID, b.Pod.UID))
	})
	slices.Sort(problems)
	problems = slices.Compact(problems)
	problems = problems[:min(len(problems), maxEndpointProblems)]
	if merged.ports > maxMergedPorts {
		problems = append(problems, "the same pods are in too many EndpointSlices; only the ports of the first ones are used")
	}
	return endpoints, problems
}

func isPod(e discoveryv1.Endpoint) bool { return e.TargetRef != nil && e.TargetRef.Kind == "Pod" }

// outsideAddress returns an address of an endpoint that is not a pod; empty if
// there is none.
func outsideAddress(endpointSlices []*discoveryv1.EndpointSlice) string {
	for _, slice := range endpointSlices {
		for _, e := range slice.Endpoints {
			if !isPod(e) && len(e.Addresses) > 0 && isAddress(e.Addresses[0]) {
				return e.Addresses[0]
			}
		}
	}
	return ""
}

// newEndpoint reads an endpoint's conditions. Missing ones have the defaults of
// discovery.k8s.io/v1: ready, serving and not terminating.
func newEndpoint(pod plan.PodRef, e discoveryv1.Endpoint) plan.Endpoint {
	ready := deref(e.Conditions.Ready, true)
	return plan.Endpoint{
		Pod:         pod,
		Hostname:    podHostname(e),
		Address:     podAddress(e),
		Ready:       ready,
		Serving:     deref(e.Conditions.Serving, ready),
		Terminating: deref(e.Conditions.Terminating, false),
	}
}

// endpointMerger joins the endpoints of the same pod from several slices.
type endpointMerger struct {
	byPod map[plan.PodRef]plan.Endpoint
	owned map[plan.PodRef]bool // pods whose ports are not a slice's
	ports int                  // of owned pods
}

// add adds an endpoint. One of a pod's slices may be outdated: the pod is ready if it
// is ready in either.
func (m *endpointMerger) add(e plan.Endpoint) {
	merged, ok := m.byPod[e.Pod]
	if !ok {
		m.byPod[e.Pod] = e
		return
	}
	merged.Hostname = cmp.Or(merged.Hostname, e.Hostname)
	if !merged.Address.Is4() && e.Address.IsValid() {
		merged.Address = e.Address
	}
	merged.Ready = merged.Ready || e.Ready
	merged.Serving = merged.Serving || e.Serving
	merged.Terminating = merged.Terminating || e.Terminating
	merged.Ports = m.mergePorts(merged, e.Ports)
	m.byPod[e.Pod] = merged
}

// mergePorts returns the ports of a known endpoint with those of another slice. It
// copies the first slice's once, not for each slice, because anybody may write
// EndpointSlices that name one pod.
func (m *endpointMerger) mergePorts(merged plan.Endpoint, ports map[string]uint16) map[string]uint16 {
	if containsPorts(merged.Ports, ports) || m.ports > maxMergedPorts {
		return merged.Ports
	}
	m.ports += len(ports)
	if !m.owned[merged.Pod] {
		m.ports += len(merged.Ports)
		merged.Ports, m.owned[merged.Pod] = maps.Clone(merged.Ports), true
	}
	maps.Copy(merged.Ports, ports)
	return merged.Ports
}

// containsPorts reports whether all has each of some ports.
func containsPorts(all, some map[string]uint16) bool {
	for name, number := range some {
		if all[name] != number {
			return false
		}
	}
	return true
}

// slicePorts returns the numbers of those ports of a slice that have one of the
// names. All endpoints of the slice share the map.
func slicePorts(slice *discoveryv1.EndpointSlice, names map[string]bool) map[string]uint16 {
	ports := make(map[string]uint16)
	for _, p := range slice.Ports {
		if number, ok := slicePort(p); ok && names[deref(p.Name, "")] {
			ports[deref(p.Name, "")] = number
		}
	}
	return ports
}

func slicePort(p discoveryv1.EndpointPort) (uint16, bool) {
	if p.Port == nil || deref(p.Protocol, corev1.ProtocolTCP) != corev1.ProtocolTCP {
		return 0, false
	}
	return portNumber(*p.Port)
}

func portNumber(n int32) (uint16, bool) {
	if n < 1 || n > math.MaxUint16 {
		return 0, false
	}
	return uint16(n), true
}

func deref[T any](p *T, fallback T) T {
	if p == nil {
		return fallback
	}
	return *p
}
