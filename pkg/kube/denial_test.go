package kube

import "testing"

func TestLimitationText(t *testing.T) {
	const ns = "shop"
	of := func(verb, resource, namespace string) denial {
		return denial{verb: verb, resource: resource, namespace: namespace, context: "ctx"}
	}
	unserved := of("list", "endpointslices", ns)
	unserved.unserved = true
	getServices, listPods, getPods := of("get", "services", ns), of("list", "pods", ns), of("get", "pods", ns)
	allPods := of("list", "pods", "")
	for want, l := range map[string]limitation{
		"not allowed to list services in namespace shop (context ctx)": {denial: of("list", "services", ns)},
		"not allowed to get services/web in namespace shop (context ctx)": {
			denial: of("get", "services/web", ns),
		},
		"not allowed to list services in namespace shop (context ctx); reading pods instead": {
			denial: of("list", "services", ns), instead: "reading pods instead",
		},
		"not allowed to list or get services in namespace shop (context ctx)": {
			denial: of("list", "services", ns), fallback: &getServices,
		},
		"not allowed to list endpointslices or pods in namespace shop (context ctx)": {
			denial: of("list", "endpointslices", ns), fallback: &listPods,
		},
		"not allowed to list endpointslices or get pods in namespace shop (context ctx)": {
			denial: of("list", "endpointslices", ns), fallback: &getPods,
		},
		"not allowed to list endpointslices or pods in all namespaces (context ctx); use -n NAMESPACE": {
			denial: of("list", "endpointslices", ""), fallback: &allPods,
		},
		"not allowed to watch services in all namespaces (context ctx); listing them every 10s": {
			denial: of("watch", "services", ""), instead: "listing them every 10s",
		},
		"API server doesn't serve endpointslices (context ctx); reading pods instead": {
			denial: unserved, instead: "reading pods instead",
		},
		"API server doesn't serve endpointslices (context ctx); not allowed to list pods in namespace shop (context ctx)": {
			denial: unserved, fallback: &listPods,
		},
	} {
		if got := l.String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
