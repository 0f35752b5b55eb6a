package kube

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// endpointSlicesFor returns the EndpointSlices that the cluster's controller
// (k8s.io/endpointslice) would create for the Services, for a user who may read
// only Pods. Each pod has its own slice, because its port numbers may differ from
// other pods'.
func endpointSlicesFor(services []*corev1.Service, pods []*corev1.Pod) []*discoveryv1.EndpointSlice {
	byNamespace := make(map[string][]*corev1.Pod)
	for _, pod := range pods {
		byNamespace[pod.Namespace] = append(byNamespace[pod.Namespace], pod)
	}
	var endpointSlices []*discoveryv1.EndpointSlice
	for _, service := range services {
		if len(service.Spec.Selector) == 0 {
			continue // the controller doesn't manage its slices
		}
		selector := labels.SelectorFromSet(service.Spec.Selector)
		for _, pod := range byNamespace[service.Namespace] {
			if selector.Matches(labels.Set(pod.Labels)) && pod.Status.PodIP != "" && !hasEnded(pod) {
				endpointSlices = append(endpointSlices, endpointSliceFor(service, pod))
			}
		}
	}
	return endpointSlices
}

func endpointSliceFor(service *corev1.Service, pod *corev1.Pod) *discoveryv1.EndpointSlice {
	terminating := pod.DeletionTimestamp != nil
	serving := service.Spec.PublishNotReadyAddresses || isReady(pod)
	ready := service.Spec.PublishNotReadyAddresses || serving && !terminating
	endpoint := discoveryv1.Endpoint{
		Addresses:  []string{pod.Status.PodIP},
		TargetRef:  refTo(pod),
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
	}
	if pod.Spec.Hostname != "" && pod.Spec.Subdomain == service.Name {
		endpoint.Hostname = &pod.Spec.Hostname
	}
	slice := &discoveryv1.EndpointSlice{Endpoints: []discoveryv1.Endpoint{endpoint}}
	slice.Namespace, slice.Name = service.Namespace, service.Name+"-"+pod.Name
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: service.Name}
	for _, p := range service.Spec.Ports {
		if number, ok := targetPort(p, pod); ok {
			slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &p.Name, Protocol: &p.Protocol, Port: &number})
		}
	}
	return slice
}

func isReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// targetPort returns the number of a Service's port in a pod, and whether the pod
// has that port.
func targetPort(p corev1.ServicePort, pod *corev1.Pod) (int32, bool) {
	if p.TargetPort.Type == intstr.Int {
		if p.TargetPort.IntVal == 0 {
			return p.Port, true
		}
		return p.TargetPort.IntVal, true
	}
	for _, container := range pod.Spec.Containers {
		for _, c := range container.Ports {
			if c.Name == p.TargetPort.StrVal && c.Protocol == p.Protocol {
				return c.ContainerPort, true
			}
		}
	}
	return 0, false
}

// haveUntargeted reports whether an endpoint has an address but no targetRef,
// which happens in EndpointSlices that were written by hand. The API server's own
// is ignored: it exists in every cluster, and its addresses are not pods.
func haveUntargeted(all []*discoveryv1.EndpointSlice) bool {
	return slices.ContainsFunc(all, func(slice *discoveryv1.EndpointSlice) bool {
		return nameOf(slice) != apiServerSlice && slices.ContainsFunc(slice.Endpoints, isUntargeted)
	})
}

var apiServerSlice = types.NamespacedName{Namespace: metav1.NamespaceDefault, Name: "kubernetes"}

func isUntargeted(e discoveryv1.Endpoint) bool { return e.TargetRef == nil && len(e.Addresses) > 0 }

// withTargetRefs returns the slices with targetRefs added to the endpoints that
// have the address of a pod of the slice's namespace. Pods with the host's network
// are left out, because several may share an address.
func withTargetRefs(all []*discoveryv1.EndpointSlice, pods []*corev1.Pod) []*discoveryv1.EndpointSlice {
	if !haveUntargeted(all) {
		return all
	}
	byAddress := make(map[string]*corev1.Pod, len(pods))
	for _, pod := range pods {
		if pod.Status.PodIP != "" && !pod.Spec.HostNetwork && !hasEnded(pod) {
			byAddress[pod.Status.PodIP] = pod
		}
	}
	targeted := make([]*discoveryv1.EndpointSlice, len(all))
	for i, slice := range all {
		targeted[i] = slice
		if !slices.ContainsFunc(slice.Endpoints, isUntargeted) {
			continue
		}
		targeted[i] = slice.DeepCopy() // the original is the store's
		for j, e := range slice.Endpoints {
			if !isUntargeted(e) {
				continue
			}
			if pod := byAddress[e.Addresses[0]]; pod != nil && pod.Namespace == slice.Namespace {
				targeted[i].Endpoints[j].TargetRef = refTo(pod)
			}
		}
	}
	return targeted
}

func refTo(pod *corev1.Pod) *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
}

// hasEnded reports whether a pod has terminated: its address may be another pod's
// by now.
func hasEnded(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
}
