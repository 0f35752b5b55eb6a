package kube

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubeshore/kubeshore/pkg/plan"
)

// podSlices returns EndpointSlices of the Service web that all have the same pods, and
// ten ports each, of 1000.
func podSlices(number, pods int) (all []*discoveryv1.EndpointSlice) {
	for i := range number {
		slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: fmt.Sprintf("web-%04d", i), Labels: map[string]string{discoveryv1.LabelServiceName: "web"},
		}}
		for j := range 10 {
			name, port := fmt.Sprintf("p%d", (i*10+j)%1000), int32(1000+i)
			slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &name, Port: &port})
		}
		for j := range pods {
			ref := &corev1.ObjectReference{Kind: "Pod", Name: fmt.Sprintf("pod-%d", j)}
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{TargetRef: ref})
		}
		all = append(all, slice)
	}
	return all
}

func servicePorts(number int) (ports []corev1.ServicePort) {
	for i := range number {
		ports = append(ports, corev1.ServicePort{Name: fmt.Sprintf("p%d", i), Port: int32(1 + i)})
	}
	return ports
}

// Any number of EndpointSlices may name the same pods. The memory of a snapshot is
// bounded by what a plan uses.
func TestPodsInManySlices(t *testing.T) {
	for name, c := range map[string]struct {
		slices, pods, servicePorts int
		maxPorts                   int // of a pod
		maxSize                    uint64
		reported                   bool
	}{
		"ports that the service lacks": {slices: 500, pods: 1, servicePorts: 1, maxPorts: 1, maxSize: 8 << 20},
		"one pod":                      {slices: 1000, pods: 1, servicePorts: 1000, maxPorts: 1000, maxSize: 16 << 20},
		"many pods":                    {slices: 200, pods: 200, servicePorts: 1000, maxPorts: 1000, maxSize: 64 << 20, reported: true},
	} {
		t.Run(name, func(t *testing.T) {
			objects := clusterObjects{
				services:       []*corev1.Service{{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}},
				endpointSlices: podSlices(c.slices, c.pods),
			}
			objects.services[0].Spec.Ports = servicePorts(c.servicePorts)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			service := newServices("ctx", objects)[0]
			runtime.ReadMemStats(&after)
			if len(service.Endpoints) != c.pods {
				t.Fatalf("got %d endpoints, want %d", len(service.Endpoints), c.pods)
			}
			total := 0
			for _, e := range service.Endpoints {
				total += len(e.Ports)
				if len(e.Ports) == 0 || len(e.Ports) > c.maxPorts {
					t.Errorf("%s: got %d ports, want 1 to %d", e.Pod.Name, len(e.Ports), c.maxPorts)
				}
			}
			if limit := maxMergedPorts + 100*len(service.Endpoints); total > limit {
				t.Errorf("got %d ports in all, want at most %d", total, limit)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > c.maxSize {
				t.Errorf("got %d MiB allocated, want at most %d", got>>20, c.maxSize>>20)
			}
			if got := slices.ContainsFunc(service.Problems, func(p string) bool { return strings.Contains(p, "too many EndpointSlices") }); got != c.reported {
				t.Errorf("got problems %q, want the excess reported: %v", service.Problems, c.reported)
			}
		})
	}
}

// An Ingress keeps two of the Services with its address, in an order that doesn't
// depend on that of the objects.
func TestControllersAreLimited(t *testing.T) {
	status := func(n int) (all corev1.LoadBalancerStatus) {
		for range n {
			all.Ingress = append(all.Ingress, corev1.LoadBalancerIngress{IP: "192.0.2.1"})
		}
		return all
	}
	var objects clusterObjects
	for i := range 500 {
		service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprintf("s%03d", 499-i)}}
		service.Spec.Ports = []corev1.ServicePort{{Port: 80}}
		service.Status.LoadBalancer = status(20)
		objects.services = append(objects.services, service)
	}
	ingress := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
	ingress.Spec.Rules = []networkingv1.IngressRule{{Host: "a.example.com"}, {Host: "a.example.com"}}
	for range 100 {
		ingress.Status.LoadBalancer.Ingress = append(ingress.Status.LoadBalancer.Ingress, networkingv1.IngressLoadBalancerIngress{IP: "192.0.2.1"})
	}
	objects.ingresses = []*networkingv1.Ingress{ingress}
	got := newIngresses("ctx", objects)[0]
	want := []plan.ServiceID{{Context: "ctx", Namespace: "shop", Name: "s000"}, {Context: "ctx", Namespace: "shop", Name: "s001"}}
	if !slices.Equal(got.Controllers, want) || !slices.Equal(got.Hosts, []string{"a.example.com"}) {
		t.Errorf("got %d controllers %.200v and hosts %q, want %v and one host", len(got.Controllers), got.Controllers, got.Hosts, want)
	}
}
