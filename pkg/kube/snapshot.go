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
		services = append(services, newService(id, service, byService[id]))
	}
	return services
}

// newIngresses returns the hosts of the Ingresses, and their controllers: the
// Services with the same address in their load-balancer status. Whoever may
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
				if !slices.Contains(byAddress[address], id) {
					byAddress[address] = append(byAddress[address], id)
				}
			}
		}
	}
	for _, ingress := range objects.ingresses {
		i := plan.Ingress{ID: plan.ServiceID{Context: contextName, Namespace: ingress.Namespace, Name: ingress.Name}}
		for _, rule := range ingress.Spec.Rules {
			if isIngressHost(rule.Host) && !slices.Contains(i.Hosts, rule.Host) {
				i.Hosts = append(i.Hosts, rule.Host)
			}
		}
		for _, at := range ingress.Status.LoadBalancer.Ingress {
			for _, address := range []string{at.IP, at.Hostname} {
				if address != "" {
					i.Controllers = append(i.Controllers, byAddress[address]...)
				}
			}
		}
		slices.SortFunc(i.Controllers, plan.ServiceID.Compare)
		i.Controllers = slices.Compact(i.Controllers)
		ingresses = append(ingresses, i)
	}
	slices.SortFunc(ingresses, func(a, b plan.Ingress) int { return a.ID.Compare(b.ID) })
	return ingresses
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
		AffinityTimeout: newAffinity(service.Spec),
	}
	result.Endpoints, result.Problems = newEndpoints(id, endpointSlices)
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
	for _, p := range service.Spec.Ports {
		number, ok := portNumber(p.Port)
		protocol := cmp.Or(p.Protocol, corev1.ProtocolTCP)
		if !ok || !isPortName(p.Name) || !isProtocol(protocol) {
			continue
		}
		result.Ports = append(result.Ports, plan.ServicePort{
			Name: p.Name, Protocol: string(protocol), Number: number, Target: p.TargetPort.StrVal,
		})
	}
	return result
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

// maxEndpointProblems limits how many invalid endpoints of a Service are reported.
const maxEndpointProblems = 5

// newEndpoints returns each pod of the slices once, and what is wrong with
// endpoints that were left out, a line each. A pod is in several slices if
// it has addresses of both families, or if the numbers of its ports differ from
// those of other pods.
func newEndpoints(id plan.ServiceID, endpointSlices []*discoveryv1.EndpointSlice) (endpoints []plan.Endpoint, problems []string) {
	byPod := make(map[plan.PodRef]plan.Endpoint)
	endpointSlices = slices.SortedFunc(slices.Values(endpointSlices), func(a, b *discoveryv1.EndpointSlice) int {
		return strings.Compare(a.Name, b.Name)
	})
	for _, slice := range endpointSlices {
		ports := slicePorts(slice)
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
			if other, ok := byPod[pod]; ok {
				endpoint = mergeEndpoints(other, endpoint)
			}
			byPod[pod] = endpoint
		}
	}
	endpoints = make([]plan.Endpoint, 0, len(byPod))
	for _, e := range byPod {
		endpoints = append(endpoints, e)
	}
	slices.SortFunc(endpoints, func(a, b plan.Endpoint) int {
		if c := strings.Compare(a.Pod.Name, b.Pod.Name); c != 0 {
			return c
		}
		return strings.Compare(a.Pod.UID, b.Pod.UID)
	})
	slices.Sort(problems)
	problems = slices.Compact(problems)
	return endpoints, problems[:min(len(problems), maxEndpointProblems)]
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

// mergeEndpoints joins the endpoints of one pod from two slices. One of the slices
// may be outdated: the pod is ready if it is ready in either.
func mergeEndpoints(a, b plan.Endpoint) plan.Endpoint {
	a.Hostname = cmp.Or(a.Hostname, b.Hostname)
	if !a.Address.Is4() && b.Address.IsValid() {
		a.Address = b.Address
	}
	a.Ready = a.Ready || b.Ready
	a.Serving = a.Serving || b.Serving
	a.Terminating = a.Terminating || b.Terminating
	a.Ports = maps.Clone(a.Ports)
	maps.Copy(a.Ports, b.Ports)
	return a
}

// slicePorts returns the numbers of a slice's ports by their names. All endpoints
// of the slice share the map.
func slicePorts(slice *discoveryv1.EndpointSlice) map[string]uint16 {
	ports := make(map[string]uint16, len(slice.Ports))
	for _, p := range slice.Ports {
		if number, ok := slicePort(p); ok && isPortName(deref(p.Name, "")) {
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
