package kube

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/fields"
)

// scope is what one set of feeds reads: a namespace, all of them if it is
// empty, or one Service in it.
type scope struct {
	namespace, service string
}

// following reads a scope of one cluster. It is made anew when the cluster's
// configuration changes.
type following struct {
	services  *feed[*corev1.Service]
	named     *feed[*corev1.Service] // stands in for services; may be nil
	slices    *feed[*discoveryv1.EndpointSlice]
	pods      *feed[*corev1.Pod]           // stands in for slices
	owners    *feed[*corev1.Pod]           // whose addresses slices have that name no pods
	unnamed   chan struct{}                // closed when there is such a slice; owners is read from then on
	ingresses *feed[*networkingv1.Ingress] // may be nil
}

// newFollowing returns the feeds of a scope. names are Services that are asked
// for one by one where they can't be listed.
func newFollowing(c *clients, cluster *Cluster, at scope, want Follow, names []string, changed func()) *following {
	read := collection{namespace: at.namespace, context: cluster.Context}
	explained := func(err error) error { return explain(err, cluster) }
	f := &following{unnamed: make(chan struct{})}

	services := read
	services.client, services.resource = c.core, "services"
	services.labels, services.fields = want.Labels, want.Fields
	if at.service != "" {
		services.labels, services.fields = "", fields.OneTermEqualSelector("metadata.name", at.service).String()
		names = []string{at.service}
	}
	f.services = newFeed(&corev1.Service{}, services, keepService, explained, changed)
	if len(names) > 0 {
		f.named = newFeed(&corev1.Service{}, &some{collection: services, names: names}, keepService, explained, changed)
		f.services.instead, f.services.standIn = f.named, fmt.Sprintf("getting %d by name every %v", len(names), pollEvery)
	}

	slices := read
	slices.client, slices.resource = c.discovery, "endpointslices"
	if at.service != "" {
		slices.labels = discoveryv1.LabelServiceName + "=" + at.service
	}
	found := sync.OnceFunc(func() { close(f.unnamed) })
	f.slices = newFeed(&discoveryv1.EndpointSlice{}, slices, keepSlice, explained, func() {
		if known, _ := f.slices.read(); lackNames(known) {
			found()
		}
		changed()
	})
	pods := read
	pods.client, pods.resource = c.core, "pods"
	f.pods = newFeed(&corev1.Pod{}, pods, keepPod, explained, changed)
	f.slices.instead, f.slices.standIn = f.pods, "reading pods instead"
	f.owners = newFeed(&corev1.Pod{}, pods, keepPod, explained, changed)

	if want.Ingresses && at.service == "" {
		ingresses := read
		ingresses.client, ingresses.resource = c.networking, "ingresses"
		f.ingresses = newFeed(&networkingv1.Ingress{}, ingresses, keepIngress, explained, changed)
	}
	return f
}

func (f *following) run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { f.services.run(ctx) })
	running.Go(func() { f.slices.run(ctx) })
	running.Go(func() {
		select {
		case <-f.unnamed:
			f.owners.run(ctx)
		case <-ctx.Done():
		}
	})
	if f.ingresses != nil {
		running.Go(func() { f.ingresses.run(ctx) })
	}
	running.Wait()
}

// state returns whether all was read that can be, and why what can't.
func (f *following) state() state {
	s := f.services.state()
	s.read = s.read || f.named != nil && f.named.state().read
	s.and(f.slices.state())
	select {
	case <-f.unnamed:
		s.asked = s.asked && f.owners.state().asked
	default:
	}
	if f.ingresses != nil {
		s.and(f.ingresses.state())
	}
	return s
}

// lost tells whether Services, or what is behind them, may not be listed.
func (f *following) lost() bool {
	return f.services.lost() || f.slices.lost() && f.pods.lost()
}

// known is what was read of a cluster.
type known struct {
	services  []*corev1.Service
	slices    []*discoveryv1.EndpointSlice
	ingresses []*networkingv1.Ingress
}

// add adds what is known of the scope now.
func (f *following) add(to *known) {
	services, ok := f.services.read()
	if f.named != nil && (!ok || f.services.lost()) {
		if named, ok := f.named.read(); ok {
			services = named
		}
	}
	slices, ok := f.slices.read()
	if !ok || f.slices.lost() {
		if pods, ok := f.pods.read(); ok {
			slices = slicesOf(services, pods)
		}
	}
	if owners, ok := f.owners.read(); ok {
		slices = withNames(slices, owners)
	}
	to.services = append(to.services, services...)
	to.slices = append(to.slices, slices...)
	if f.ingresses != nil {
		ingresses, _ := f.ingresses.read()
		to.ingresses = append(to.ingresses, ingresses...)
	}
}
