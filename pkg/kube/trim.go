package kube

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The functions here return an object with only the fields that a snapshot needs,
// which are few. The others take no memory, and changes of them are ignored.

func trimMeta(o metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name}
}

func trimService(s *corev1.Service) *corev1.Service {
	trimmed := &corev1.Service{
		ObjectMeta: trimMeta(s.ObjectMeta),
		Spec: corev1.ServiceSpec{
			Type: s.Spec.Type, ClusterIP: s.Spec.ClusterIP, ExternalName: s.Spec.ExternalName, Ports: s.Spec.Ports,
			Selector: s.Spec.Selector, PublishNotReadyAddresses: s.Spec.PublishNotReadyAddresses,
			SessionAffinity: s.Spec.SessionAffinity, SessionAffinityConfig: s.Spec.SessionAffinityConfig,
		},
	}
	trimmed.Status.LoadBalancer = s.Status.LoadBalancer
	return trimmed
}

func trimEndpointSlice(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	trimmed := &discoveryv1.EndpointSlice{ObjectMeta: trimMeta(s.ObjectMeta), Ports: s.Ports}
	trimmed.Labels = map[string]string{discoveryv1.LabelServiceName: s.Labels[discoveryv1.LabelServiceName]}
	trimmed.Endpoints = make([]discoveryv1.Endpoint, len(s.Endpoints))
	for i, e := range s.Endpoints {
		trimmed.Endpoints[i] = discoveryv1.Endpoint{Conditions: e.Conditions, Hostname: e.Hostname, TargetRef: e.TargetRef}
		if len(e.Addresses) > 0 { // the others are never used
			trimmed.Endpoints[i].Addresses = e.Addresses[:1]
		}
	}
	return trimmed
}

func trimPod(p *corev1.Pod) *corev1.Pod {
	trimmed := &corev1.Pod{ObjectMeta: trimMeta(p.ObjectMeta)}
	trimmed.UID, trimmed.Labels, trimmed.DeletionTimestamp = p.UID, p.Labels, p.DeletionTimestamp
	trimmed.Spec.Hostname, trimmed.Spec.Subdomain, trimmed.Spec.HostNetwork = p.Spec.Hostname, p.Spec.Subdomain, p.Spec.HostNetwork
	for _, containers := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for _, c := range containers {
			if len(c.Ports) > 0 {
				trimmed.Spec.Containers = append(trimmed.Spec.Containers, corev1.Container{Ports: c.Ports})
			}
		}
	}
	trimmed.Status.Phase, trimmed.Status.PodIP = p.Status.Phase, p.Status.PodIP
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			trimmed.Status.Conditions = []corev1.PodCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	return trimmed
}

func trimIngress(i *networkingv1.Ingress) *networkingv1.Ingress {
	trimmed := &networkingv1.Ingress{ObjectMeta: trimMeta(i.ObjectMeta), Status: i.Status}
	for _, rule := range i.Spec.Rules {
		trimmed.Spec.Rules = append(trimmed.Spec.Rules, networkingv1.IngressRule{Host: rule.Host})
	}
	return trimmed
}
