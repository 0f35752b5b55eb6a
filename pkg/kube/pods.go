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

// slicesOf returns the EndpointSlices that the cluster's own controller makes
// of the pods (k8s.io/endpointslice), for a user who may read these only. Each
// pod has a slice of its own, as the numbers of its ports are its own.
func slicesOf(services []*corev1.Service, pods []*corev1.Pod) []*discoveryv1.EndpointSlice {
	byNamespace := make(map[string][]*corev1.Pod)
	for _, pod := range pods {
		byNamespace[pod.Namespace] = append(byNamespace[pod.Namespace], pod)
	}
	var made []*discoveryv1.EndpointSlice
	for _, service := range services {
		if len(service.Spec.Selector) == 0 {
			continue // its slices are somebody else's
		}
		selector := labels.SelectorFromSet(service.Spec.Selector)
		for _, pod := range byNamespace[service.Namespace] {
			if selector.Matches(labels.Set(pod.Labels)) && pod.Status.PodIP != "" && !hasEnded(pod) {
				made = append(made, sliceOf(service, pod))
			}
		}
	}
	return made
}

func sliceOf(service *corev1.Service, pod *corev1.Pod) *discoveryv1.EndpointSlice {
	terminating := pod.DeletionTimestamp != nil
	serving := service.Spec.PublishNotReadyAddresses || isReady(pod)
	ready := service.Spec.PublishNotReadyAddresses || serving && !terminating
	endpoint := discoveryv1.Endpoint{
		TargetRef:  referTo(pod),
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

// targetPort returns the number that a port of a Service has in a pod.
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

// lackNames tells whether one of the slices has an address without saying whose
// it is, as those may that were written by hand. The API server's own does so in
// every cluster; it is no pod.
func lackNames(all []*discoveryv1.EndpointSlice) bool {
	return slices.ContainsFunc(all, func(slice *discoveryv1.EndpointSlice) bool {
		return nameOf(slice) != apiServerSlice && slices.ContainsFunc(slice.Endpoints, lacksName)
	})
}

var apiServerSlice = types.NamespacedName{Namespace: metav1.NamespaceDefault, Name: "kubernetes"}

func lacksName(e discoveryv1.Endpoint) bool { return e.TargetRef == nil && len(e.Addresses) > 0 }

// withNames returns the slices with the names of the pods whose addresses they
// have. On a node's address several pods may answer: none is meant.
func withNames(all []*discoveryv1.EndpointSlice, pods []*corev1.Pod) []*discoveryv1.EndpointSlice {
	if !lackNames(all) {
		return all
	}
	byAddress := make(map[string]*corev1.Pod, len(pods))
	for _, pod := range pods {
		if pod.Status.PodIP != "" && !pod.Spec.HostNetwork && !hasEnded(pod) {
			byAddress[pod.Status.PodIP] = pod
		}
	}
	named := make([]*discoveryv1.EndpointSlice, len(all))
	for i, slice := range all {
		named[i] = slice
		if !slices.ContainsFunc(slice.Endpoints, lacksName) {
			continue
		}
		named[i] = slice.DeepCopy() // that of the store is everyone's
		for j, e := range slice.Endpoints {
			if !lacksName(e) {
				continue
			}
			if pod := byAddress[e.Addresses[0]]; pod != nil {
				named[i].Endpoints[j].TargetRef = referTo(pod)
			}
		}
	}
	return named
}

func referTo(pod *corev1.Pod) *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
}

// hasEnded tells whether a pod's processes have: its address may be another's now.
func hasEnded(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
}
