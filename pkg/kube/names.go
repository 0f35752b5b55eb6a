package kube

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubeshore/kubeshore/internal/dnsname"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// The functions here check names as the API server's validation does
// (kubernetes, pkg/apis/core/validation), because names become parts of URLs, of
// hosts files and of messages. The API server doesn't check the targetRefs of
// EndpointSlices; and it, or a proxy in front of it, may not be a real one.

// checkNames returns an error if an object that was requested from a namespace,
// or from all if it is empty, is in another one or has an invalid name.
func checkNames(object metav1.Object, namespace string) error {
	valid := dnsname.IsName
	if _, ok := object.(*corev1.Service); ok {
		valid = dnsname.IsLabel
	}
	switch name, its := object.GetName(), object.GetNamespace(); {
	case !dnsname.IsLabel(its):
		return fmt.Errorf("invalid namespace %.*q", dnsname.MaxName, its)
	case namespace != "" && its != namespace:
		return fmt.Errorf("%.*q is in namespace %s, not %s", dnsname.MaxName, name, its, namespace)
	case !valid(name):
		return fmt.Errorf("invalid name %.*q in namespace %s", dnsname.MaxName, name, its)
	}
	return nil
}

// podOf returns the pod that an endpoint in an EndpointSlice of the Service refers
// to, which must be in the Service's namespace: a user of that namespace wrote
// the slice, and may have no rights in others.
func podOf(id plan.ServiceID, ref *corev1.ObjectReference) (plan.PodRef, error) {
	pod := plan.PodRef{Context: id.Context, Namespace: id.Namespace, Name: ref.Name, UID: string(ref.UID)}
	switch {
	case ref.Namespace != "" && ref.Namespace != id.Namespace:
		return pod, fmt.Errorf("endpoint refers to a pod in another namespace, %.*q; ignored", dnsname.MaxName, ref.Namespace)
	case !dnsname.IsName(ref.Name):
		return pod, fmt.Errorf("endpoint refers to a pod with an invalid name, %.*q; ignored", dnsname.MaxName, ref.Name)
	}
	return pod, nil
}

// podHostname returns the host name of an endpoint's pod; empty if it has none, or
// not a valid one.
func podHostname(e discoveryv1.Endpoint) string {
	if name := deref(e.Hostname, ""); dnsname.IsLabel(name) {
		return name
	}
	return ""
}

// podAddress returns the IP address of an endpoint; the zero Addr if it has none, or
// not a valid one.
func podAddress(e discoveryv1.Endpoint) netip.Addr {
	if len(e.Addresses) == 0 {
		return netip.Addr{}
	}
	address, err := netip.ParseAddr(e.Addresses[0])
	if err != nil || address.Zone() != "" {
		return netip.Addr{}
	}
	return address
}

// isPortName reports whether text is a valid name of a Service's port. It may be
// empty.
func isPortName(text string) bool { return text == "" || dnsname.IsLabel(text) }

// isProtocol reports whether a port of a Service can have the protocol.
func isProtocol(p corev1.Protocol) bool {
	return slices.Contains([]corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}, p)
}

// isAddress reports whether text is valid as an address of an endpoint: an IP
// address or a DNS name.
func isAddress(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil && !strings.Contains(text, "%") || dnsname.IsName(text)
}

// isIngressHost reports whether text is valid as the host of an Ingress's rule: a
// DNS name, whose first label may be a wildcard.
func isIngressHost(text string) bool { return dnsname.IsName(strings.TrimPrefix(text, "*.")) }
