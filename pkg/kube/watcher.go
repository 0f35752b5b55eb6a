package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/cache"

	"github.com/kubeshore/kubeshore/pkg/fwd"
)

// Watcher follows the Services and EndpointSlices of some namespaces of one
// cluster. It is a fwd.Source.
type Watcher struct {
	cluster    *Cluster
	log        logrus.FieldLogger
	namespaces []watched
	changed    chan struct{}
	synced     atomic.Bool
}

// watched is one namespace with what is known of it.
type watched struct {
	name     string
	services cache.SharedIndexInformer
	slices   cache.SharedIndexInformer
}

// NewWatcher asks the API server whether the namespaces can be read and
// returns a watcher of those that can; what may not be read of the others is
// logged. It returns an error if none can be read.
func NewWatcher(ctx context.Context, cluster *Cluster, namespaces []string, log logrus.FieldLogger) (*Watcher, error) {
	clients, err := newClients(cluster.Config)
	if err != nil {
		return nil, fmt.Errorf("context %s: %w", cluster.Context, err)
	}
	faults := make([]error, len(namespaces))
	var asking errgroup.Group
	for i, namespace := range namespaces {
		asking.Go(func() error {
			faults[i] = clients.check(ctx, cluster, namespace)
			return nil
		})
	}
	_ = asking.Wait() // each answer is in faults
	w := &Watcher{cluster: cluster, log: log, changed: make(chan struct{}, 1)}
	for i, namespace := range namespaces {
		if faults[i] != nil {
			continue
		}
		n, err := w.watch(clients, namespace)
		if err != nil {
			return nil, err
		}
		w.namespaces = append(w.namespaces, n)
	}
	if len(w.namespaces) == 0 {
		return nil, faults[0]
	}
	for _, fault := range faults {
		if fault != nil {
			log.Warn(fault)
		}
	}
	return w, nil
}

// watch prepares the informers of one namespace. They keep only what a
// snapshot is made of, and all that an event tells is that there was one.
func (w *Watcher) watch(clients *clients, namespace string) (watched, error) {
	n := watched{
		name:     namespace,
		services: cache.NewSharedIndexInformer(clients.services(namespace), &corev1.Service{}, 0, nil),
		slices:   cache.NewSharedIndexInformer(clients.endpointSlices(namespace), &discoveryv1.EndpointSlice{}, 0, nil),
	}
	for _, informer := range []cache.SharedIndexInformer{n.services, n.slices} {
		if err := informer.SetTransform(strip); err != nil {
			return watched{}, err
		}
		if err := informer.SetWatchErrorHandlerWithContext(w.watchError(namespace)); err != nil {
			return watched{}, err
		}
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { w.notify() },
			UpdateFunc: func(any, any) { w.notify() },
			DeleteFunc: func(any) { w.notify() },
		}); err != nil {
			return watched{}, err
		}
	}
	return n, nil
}

// strip takes away what no snapshot needs, so that it isn't kept in memory.
func strip(object any) (any, error) {
	accessor, err := meta.Accessor(object)
	if err != nil {
		return object, nil //nolint:nilerr // a tombstone: it passes as it is
	}
	accessor.SetManagedFields(nil)
	accessor.SetAnnotations(nil)
	return object, nil
}

// watchError logs why a list or watch failed, unless that is how watches end;
// the informer tries again by itself. What was said last isn't said again.
func (w *Watcher) watchError(namespace string) cache.WatchErrorHandlerWithContext {
	var last atomic.Value
	return func(_ context.Context, _ *cache.Reflector, err error) {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
			apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			return
		}
		fault := explain(err, w.cluster)
		if said, _ := last.Swap(fault.Error()).(string); said != fault.Error() {
			w.log.Warnf("namespace %s: %v; trying again", namespace, fault)
		}
	}
}

// Run follows the namespaces until ctx ends. It must be called once.
func (w *Watcher) Run(ctx context.Context) error {
	var running errgroup.Group
	var synced []cache.DoneChecker
	for _, n := range w.namespaces {
		for _, informer := range []cache.SharedIndexInformer{n.services, n.slices} {
			running.Go(func() error {
				informer.RunWithContext(ctx)
				return nil
			})
			synced = append(synced, informer.HasSyncedChecker())
		}
	}
	if cache.WaitFor(ctx, "", synced...) {
		w.synced.Store(true)
		w.notify()
		for _, n := range w.namespaces {
			if len(n.services.GetStore().ListKeys()) == 0 {
				w.log.Warnf("no services in namespace %s, or it doesn't exist: waiting", n.name)
			}
		}
	}
	return running.Wait()
}

// notify says that the snapshot may have changed. Before everything was first
// read it says nothing: half a snapshot is none.
func (w *Watcher) notify() {
	if !w.synced.Load() {
		return
	}
	select {
	case w.changed <- struct{}{}:
	default: // it is said already
	}
}

// Changed receives a value when the snapshot may differ from the last one
// taken; the first, once everything was read.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Snapshot returns what the informers know now.
func (w *Watcher) Snapshot() fwd.Snapshot {
	var services []*corev1.Service
	var slices []*discoveryv1.EndpointSlice
	for _, n := range w.namespaces {
		services = appendObjects(services, n.services)
		slices = appendObjects(slices, n.slices)
	}
	return newSnapshot(w.cluster.Context, services, slices)
}

func appendObjects[T any](objects []T, informer cache.SharedIndexInformer) []T {
	for _, object := range informer.GetStore().List() {
		if typed, ok := object.(T); ok {
			objects = append(objects, typed)
		}
	}
	return objects
}
