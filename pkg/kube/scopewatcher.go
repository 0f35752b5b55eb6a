package kube

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/kubeshore/kubeshore/internal/wake"
)

// scope is the part of a cluster that a scopeWatcher reads: all namespaces, one
// namespace, or one Service.
type scope struct {
	namespace, service string // either may be empty
}

// scopeWatcher reads the objects of one scope. A change of the cluster's
// configuration replaces it.
type scopeWatcher struct {
	services       *feed[*corev1.Service]
	namedServices  *feed[*corev1.Service] // fallback of services; may be nil
	endpointSlices *feed[*discoveryv1.EndpointSlice]
	pods           *feed[*corev1.Pod]           // fallback of endpointSlices
	addressPods    *feed[*corev1.Pod]           // for endpoints without a targetRef; runs once untargeted is closed
	untargeted     chan struct{}                // closed when an endpoint without a targetRef is found
	ingresses      *feed[*networkingv1.Ingress] // may be nil
	rights         *rights

	stop context.CancelFunc // ends run
}

// newScopeWatcher returns a watcher that has not started. The named Services are
// read one by one if the scope's Services can't be listed. scopesChanged is called
// instead of changed for objects that other scopes depend on.
func newScopeWatcher(c *clients, cluster *Cluster, at scope, want Follow, names []string, changed, scopesChanged changeFunc) *scopeWatcher {
	base := collection{namespace: at.namespace, context: cluster.Context}
	explained := func(err error) error { return describeError(err, cluster) }
	w := &scopeWatcher{untargeted: make(chan struct{})}

	services := base
	services.client, services.resource = c.core, "services"
	services.labels, services.fields = want.Labels, want.Fields
	if at.service != "" {
		services.labels, services.fields = "", fields.OneTermEqualSelector("metadata.name", at.service).String()
		names = []string{at.service}
	}
	w.rights = &rights{
		client: c.core, context: cluster.Context, namespace: at.namespace, namespaces: w.namespacesOf,
		changed: func() { changed(true) }, again: wake.NewTrigger(),
	}
	w.services = newFeed(&corev1.Service{}, services, trimService, explained, func(state bool) {
		if at.namespace == "" {
			w.rights.again.Fire()
		}
		scopesChanged(state)
	})
	if len(names) > 0 {
		w.namedServices = newFeed(&corev1.Service{}, &namedServices{collection: services, names: names}, trimService, explained, scopesChanged)
		w.services.fallback, w.services.fallbackText = w.namedServices, fmt.Sprintf("getting %d by name every %v", len(names), relistInterval)
	}

	endpointSlices := base
	endpointSlices.client, endpointSlices.resource = c.discovery, "endpointslices"
	if at.service != "" {
		endpointSlices.labels = discoveryv1.LabelServiceName + "=" + at.service
	}
	closeUntargeted := sync.OnceFunc(func() { close(w.untargeted) })
	w.endpointSlices = newFeed(&discoveryv1.EndpointSlice{}, endpointSlices, trimEndpointSlice, explained, func(state bool) {
		if known, _ := w.endpointSlices.read(); haveUntargeted(known) {
			closeUntargeted()
		}
		changed(state)
	})
	pods := base
	pods.client, pods.resource = c.core, "pods"
	w.pods = newFeed(&corev1.Pod{}, pods, trimPod, explained, changed)
	w.endpointSlices.fallback, w.endpointSlices.fallbackText = w.pods, "reading pods instead"
	w.addressPods = newFeed(&corev1.Pod{}, pods, trimPod, explained, changed)

	if want.Ingresses && at.service == "" {
		ingresses := base
		ingresses.client, ingresses.resource = c.networking, "ingresses"
		w.ingresses = newFeed(&networkingv1.Ingress{}, ingresses, trimIngress, explained, scopesChanged)
	}
	return w
}

func (w *scopeWatcher) run(ctx context.Context) {
	var feeds sync.WaitGroup
	feeds.Go(func() { w.services.run(ctx) })
	feeds.Go(func() { w.endpointSlices.run(ctx) })
	feeds.Go(func() {
		select {
		case <-w.untargeted:
			w.addressPods.run(ctx)
		case <-ctx.Done():
		}
	})
	if w.ingresses != nil {
		feeds.Go(func() { w.ingresses.run(ctx) })
	}
	feeds.Go(func() { w.rights.run(ctx) })
	feeds.Wait()
}

func (w *scopeWatcher) state() feedState {
	s := w.services.state()
	s.loaded = s.loaded || w.namedServices != nil && w.namedServices.loaded()
	s.merge(w.endpointSlices.state())
	select {
	case <-w.untargeted:
		s.settled = s.settled && w.addressPods.state().settled
	default:
	}
	if w.ingresses != nil {
		s.merge(w.ingresses.state())
	}
	if known, _ := w.rights.state(); !known && s.unreachable == nil {
		s.settled = false
	}
	return s
}

// synced reports whether all objects were read, except those that the user may
// not read.
func (w *scopeWatcher) synced() bool {
	s := w.state()
	return s.settled && s.unreachable == nil
}

// denied reports whether Services can't be listed, or neither EndpointSlices nor
// Pods can.
func (w *scopeWatcher) denied() bool {
	return w.services.stale() || w.endpointSlices.stale() && w.pods.stale()
}

// clusterObjects are objects of one cluster.
type clusterObjects struct {
	services       []*corev1.Service
	endpointSlices []*discoveryv1.EndpointSlice
	ingresses      []*networkingv1.Ingress
	denied         map[string]string // by namespace: why the user may not forward
}

// readServices returns the scope's current Services.
func (w *scopeWatcher) readServices() []*corev1.Service {
	services, ok := w.services.read()
	if w.namedServices != nil && (!ok || w.services.stale()) {
		if named, ok := w.namedServices.read(); ok {
			services = named
		}
	}
	return services
}

// appendTo appends the scope's current objects to others.
func (w *scopeWatcher) appendTo(others *clusterObjects) {
	services := w.readServices()
	endpointSlices, ok := w.endpointSlices.read()
	if !ok || w.endpointSlices.stale() {
		if pods, ok := w.pods.read(); ok {
			endpointSlices = endpointSlicesFor(services, pods)
		}
	}
	if pods, ok := w.addressPods.read(); ok {
		endpointSlices = withTargetRefs(endpointSlices, pods)
	}
	_, denied := w.rights.state()
	for namespace, why := range denied {
		if others.denied == nil {
			others.denied = make(map[string]string)
		}
		others.denied[namespace] = why
	}
	others.services = append(others.services, services...)
	others.endpointSlices = append(others.endpointSlices, endpointSlices...)
	if w.ingresses != nil {
		ingresses, _ := w.ingresses.read()
		others.ingresses = append(others.ingresses, ingresses...)
	}
}
