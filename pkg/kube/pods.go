package kube

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
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
	var slices []*discoveryv1.EndpointSlice
	for _, service := range services {
		if len(service.Spec.Selector) == 0 {
			continue // its slices are somebody else's
		}
		selector := labels.SelectorFromSet(service.Spec.Selector)
		for _, pod := range byNamespace[service.Namespace] {
			ended := pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
			if selector.Matches(labels.Set(pod.Labels)) && pod.Status.PodIP != "" && !ended {
				slices = append(slices, sliceOf(service, pod))
			}
		}
	}
	return slices
}

func sliceOf(service *corev1.Service, pod *corev1.Pod) *discoveryv1.EndpointSlice {
	terminating := pod.DeletionTimestamp != nil
	serving := service.Spec.PublishNotReadyAddresses || isReady(pod)
	ready := service.Spec.PublishNotReadyAddresses || serving && !terminating
	endpoint := discoveryv1.Endpoint{
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
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
