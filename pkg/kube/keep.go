package kube

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The functions here return of an object what a snapshot needs, which is little
// of it: the rest isn't held in memory, and is no change.

func keepMeta(o metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name}
}

func keepService(s *corev1.Service) *corev1.Service {
	kept := &corev1.Service{
		ObjectMeta: keepMeta(s.ObjectMeta),
		Spec: corev1.ServiceSpec{
			Type: s.Spec.Type, ClusterIP: s.Spec.ClusterIP, ExternalName: s.Spec.ExternalName, Ports: s.Spec.Ports,
			Selector: s.Spec.Selector, PublishNotReadyAddresses: s.Spec.PublishNotReadyAddresses,
			SessionAffinity: s.Spec.SessionAffinity, SessionAffinityConfig: s.Spec.SessionAffinityConfig,
			ExternalIPs: s.Spec.ExternalIPs,
		},
	}
	kept.Status.LoadBalancer = s.Status.LoadBalancer
	return kept
}

func keepSlice(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	kept := &discoveryv1.EndpointSlice{ObjectMeta: keepMeta(s.ObjectMeta), Ports: s.Ports}
	kept.Labels = map[string]string{discoveryv1.LabelServiceName: s.Labels[discoveryv1.LabelServiceName]}
	kept.Endpoints = make([]discoveryv1.Endpoint, len(s.Endpoints))
	for i, e := range s.Endpoints {
		kept.Endpoints[i] = discoveryv1.Endpoint{Conditions: e.Conditions, Hostname: e.Hostname, TargetRef: e.TargetRef}
		if !isPod(e) && len(e.Addresses) > 0 {
			kept.Endpoints[i].Addresses = e.Addresses[:1]
		}
	}
	return kept
}

func keepPod(p *corev1.Pod) *corev1.Pod {
	kept := &corev1.Pod{ObjectMeta: keepMeta(p.ObjectMeta)}
	kept.UID, kept.Labels, kept.DeletionTimestamp = p.UID, p.Labels, p.DeletionTimestamp
	kept.Spec.Hostname, kept.Spec.Subdomain, kept.Spec.HostNetwork = p.Spec.Hostname, p.Spec.Subdomain, p.Spec.HostNetwork
	for _, containers := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for _, c := range containers {
			if len(c.Ports) > 0 {
				kept.Spec.Containers = append(kept.Spec.Containers, corev1.Container{Ports: c.Ports})
			}
		}
	}
	kept.Status.Phase, kept.Status.PodIP = p.Status.Phase, p.Status.PodIP
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			kept.Status.Conditions = []corev1.PodCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	return kept
}

func keepIngress(i *networkingv1.Ingress) *networkingv1.Ingress {
	kept := &networkingv1.Ingress{ObjectMeta: keepMeta(i.ObjectMeta), Status: i.Status}
	for _, rule := range i.Spec.Rules {
		kept.Spec.Rules = append(kept.Spec.Rules, networkingv1.IngressRule{Host: rule.Host})
	}
	return kept
}
