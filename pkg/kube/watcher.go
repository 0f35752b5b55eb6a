package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/cache"

	"github.com/kubeshore/kubeshore/pkg/fwd"
)

// firstSync is how long the first snapshot waits for a namespace that could be
// read a moment ago. Those that take longer are followed when they are there.
const firstSync = 10 * time.Second

// Watcher follows the Services and EndpointSlices of some namespaces of one
// cluster. It is a fwd.Source.
type Watcher struct {
	cluster    *Cluster
	log        logrus.FieldLogger
	namespaces []*watched
	changed    chan struct{}
	begun      atomic.Bool // the first snapshot may be taken
}

// watched is one namespace with what is known of it.
type watched struct {
	name     string
	services cache.SharedIndexInformer
	slices   cache.SharedIndexInformer
	fault    error       // why it couldn't be read at the start
	synced   atomic.Bool // it was read as a whole
}

// NewWatcher asks the API server whether the namespaces can be read and
// returns a watcher for them. What can't be read of some is logged, and tried
// again by Run. It returns an error if none can be read.
func NewWatcher(ctx context.Context, cluster *Cluster, namespaces []string, log logrus.FieldLogger) (*Watcher, error) {
	clients, err := newClients(cluster)
	if err != nil {
		return nil, fmt.Errorf("context %s: %w", cluster.Context, err)
	}
	w := &Watcher{cluster: cluster, log: log, changed: make(chan struct{}, 1)}
	for _, namespace := range namespaces {
		n, err := w.watch(clients, namespace)
		if err != nil {
			return nil, err
		}
		w.namespaces = append(w.namespaces, n)
	}
	var asking errgroup.Group
	for _, n := range w.namespaces {
		asking.Go(func() error {
			n.fault = clients.check(ctx, cluster, n.name)
			return nil
		})
	}
	_ = asking.Wait() // each answer is in its namespace's fault
	if !slices.ContainsFunc(w.namespaces, func(n *watched) bool { return n.fault == nil }) {
		return nil, w.namespaces[0].fault
	}
	for _, n := range w.namespaces {
		if n.fault != nil {
			log.Warnf("%v; trying again", n.fault)
		}
	}
	return w, nil
}

// watch prepares the informers of one namespace. All that an event tells is
// that there was one.
func (w *Watcher) watch(clients *clients, namespace string) (*watched, error) {
	n := &watched{
		name:     namespace,
		services: cache.NewSharedIndexInformer(clients.services(namespace), &corev1.Service{}, 0, nil),
		slices:   cache.NewSharedIndexInformer(clients.endpointSlices(namespace), &discoveryv1.EndpointSlice{}, 0, nil),
	}
	for _, informer := range []cache.SharedIndexInformer{n.services, n.slices} {
		if err := informer.SetTransform(strip); err != nil {
			return nil, err
		}
		if err := informer.SetWatchErrorHandlerWithContext(w.watchError(n)); err != nil {
			return nil, err
		}
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { w.notify() },
			UpdateFunc: func(any, any) { w.notify() },
			DeleteFunc: func(any) { w.notify() },
		}); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// strip takes away the largest of what no snapshot needs, so that it isn't kept
// in memory.
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
// the informer tries again by itself. What was said last isn't said again, nor
// is what NewWatcher has said.
func (w *Watcher) watchError(n *watched) cache.WatchErrorHandlerWithContext {
	var last atomic.Value
	return func(_ context.Context, _ *cache.Reflector, err error) {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
			apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			return
		}
		fault := explain(err, w.cluster).Error()
		if said, _ := last.Swap(fault).(string); said != fault && (n.fault == nil || n.synced.Load()) {
			w.log.Warnf("namespace %s: %s; trying again", n.name, fault)
		}
	}
}

// Run follows the namespaces until ctx ends. It must be called once.
func (w *Watcher) Run(ctx context.Context) error {
	var running, first sync.WaitGroup
	for _, n := range w.namespaces {
		for _, informer := range []cache.SharedIndexInformer{n.services, n.slices} {
			running.Go(func() { informer.RunWithContext(ctx) })
		}
		if n.fault == nil {
			first.Add(1)
		}
		running.Go(func() {
			w.sync(ctx, n)
			if n.fault == nil {
				first.Done()
			}
		})
	}
	begin := time.AfterFunc(firstSync, w.begin)
	first.Wait()
	begin.Stop()
	w.begin()
	running.Wait()
	return nil
}

// begin lets the first snapshot be taken.
func (w *Watcher) begin() {
	w.begun.Store(true)
	w.notify()
}

// sync waits until a namespace was read as a whole.
func (w *Watcher) sync(ctx context.Context, n *watched) {
	if !cache.WaitFor(ctx, "", n.services.HasSyncedChecker(), n.slices.HasSyncedChecker()) {
		return
	}
	n.synced.Store(true)
	if len(n.services.GetStore().ListKeys()) == 0 {
		w.log.Warnf("no services in namespace %s, or it doesn't exist: waiting", n.name)
	}
	w.notify()
}

// notify says that the snapshot may have changed.
func (w *Watcher) notify() {
	if !w.begun.Load() {
		return
	}
	select {
	case w.changed <- struct{}{}:
	default: // it is said already
	}
}

// Changed receives a value when the snapshot may differ from the last one
// taken; the first, once everything was read that could be.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Snapshot returns what is known now of the namespaces that were read as a whole.
func (w *Watcher) Snapshot() fwd.Snapshot {
	var services []*corev1.Service
	var endpointSlices []*discoveryv1.EndpointSlice
	for _, n := range w.namespaces {
		if n.synced.Load() {
			services = appendObjects(services, n.services)
			endpointSlices = appendObjects(endpointSlices, n.slices)
		}
	}
	return newSnapshot(w.cluster.Context, services, endpointSlices)
}

func appendObjects[T any](objects []T, informer cache.SharedIndexInformer) []T {
	for _, object := range informer.GetStore().List() {
		if typed, ok := object.(T); ok {
			objects = append(objects, typed)
		}
	}
	return objects
}
