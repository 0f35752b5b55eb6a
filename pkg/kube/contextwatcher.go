package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubeshore/kubeshore/pkg/plan"
)

// contextWatcher watches one context of the kubeconfig. Its Source's mu guards
// it, and must be held when its methods are called.
type contextWatcher struct {
	context string
	want    Follow
	cluster *Cluster // as last loaded; nil if it never was
	clients *clients
	loadErr error // why the context can't be loaded; nil if it can
	// balancers are the Services of type LoadBalancer in all namespaces: one of
	// them may be an Ingress controller's. It is nil if not needed.
	balancers     *feed[*corev1.Service]
	stopBalancers context.CancelFunc
	unreachable   error // first error of the current outage of the API server; nil if there is none
	scopes        map[scope]*scopeWatcher
	retired       map[scope]*scopeWatcher // their objects are used until all scopes are synced
	// followed are the scopes that ExternalName Services refer to. The user didn't
	// ask for them, so it's no problem if they can't be read. omitted is the number
	// of those that are too many.
	followed map[scope]bool
	omitted  int
}

// updateLocked starts and stops watchers to match want. They call scopesChanged instead
// of changed after changes that may require other watchers. loaded is the cluster if it
// was loaded again, loadErr the error if that failed.
func (w *contextWatcher) updateLocked(ctx context.Context, running *sync.WaitGroup, want Follow, loaded *Cluster, loadErr error, changed, scopesChanged changeFunc) {
	w.loadErr = loadErr
	restart := loaded != nil && !loaded.same(w.cluster)
	if loaded != nil && !restart {
		w.loadErr = w.cluster.Gate.Refresh(loaded.Config)
	}
	if restart {
		next, err := newClients(loaded)
		if err != nil {
			w.loadErr = fmt.Errorf("context %s: %w", w.context, oneLine(err))
			if w.cluster == nil {
				w.want = want
			}
			return
		}
		if w.clients != nil {
			defer w.clients.close()
		}
		w.cluster, w.clients = loaded, next
	}
	if w.cluster == nil {
		w.want = want
		return
	}
	restart = restart || want.Labels != w.want.Labels || want.Fields != w.want.Fields || want.Ingresses != w.want.Ingresses ||
		!slices.Equal(want.Services, w.want.Services)
	w.want = want
	w.updateBalancersLocked(ctx, running, restart, scopesChanged)
	before := w.scopes
	w.scopes = make(map[scope]*scopeWatcher)
	var wanted map[scope][]string
	wanted, w.followed = w.wantedScopesLocked(before)
	for at, names := range wanted {
		watcher, ok := before[at]
		if !ok || restart {
			watcher = newScopeWatcher(w.clients, w.cluster, at, want, names, changed, scopesChanged)
			var inner context.Context
			inner, watcher.stop = context.WithCancel(ctx)
			running.Go(func() { watcher.run(inner) })
		} else {
			delete(before, at)
		}
		w.scopes[at] = watcher
	}
	for at, watcher := range before {
		watcher.stop()
		w.retireLocked(at, watcher)
	}
}

// retireLocked keeps the objects of a stopped watcher until all scopes are synced.
// Of several watchers of a scope it keeps one, the last that was synced: while the
// API server is unreachable, each change of the kubeconfig stops another one.
func (w *contextWatcher) retireLocked(at scope, watcher *scopeWatcher) {
	if w.retired[at] != nil && !watcher.synced() {
		return
	}
	if w.retired == nil {
		w.retired = make(map[scope]*scopeWatcher)
	}
	w.retired[at] = watcher
}

// updateBalancersLocked starts or stops reading the load balancers of all
// namespaces. They are needed if Ingresses are followed, but not all namespaces.
// A user without the permission to read them has none.
func (w *contextWatcher) updateBalancersLocked(ctx context.Context, running *sync.WaitGroup, restart bool, changed changeFunc) {
	needed := w.want.Ingresses && w.want.Namespaces != nil
	if w.balancers != nil && (restart || !needed) {
		w.stopBalancers()
		w.balancers = nil
	}
	if !needed || w.balancers != nil {
		return
	}
	cluster := w.cluster
	balancers := newFeed(&corev1.Service{}, collection{
		client: w.clients.core, resource: "services", fields: "spec.type=LoadBalancer", context: w.context,
	}, trimService, func(err error) error { return describeError(err, cluster) }, changed)
	w.balancers = balancers
	var inner context.Context
	inner, w.stopBalancers = context.WithCancel(ctx)
	running.Go(func() { balancers.run(inner) })
}

// wantedScopesLocked returns the scopes to read, with the names that
// Follow.scopes describes: those of the configuration, and the controllers of
// the Ingresses read so far by the given watchers. Where all namespaces are read,
// single Services are only needed if that is denied or a selector excludes them.
// followed are the scopes among them that only ExternalName Services refer to.
func (w *contextWatcher) wantedScopesLocked(watchers map[scope]*scopeWatcher) (scopes map[scope][]string, followed map[scope]bool) {
	scopes = w.want.scopes()
	if all := watchers[scope{}]; w.want.Namespaces == nil && w.want.Labels+w.want.Fields == "" && (all == nil || !all.denied()) {
		return map[scope][]string{{}: nil}, nil
	}
	followed = w.followExternalLocked(watchers, scopes)
	if w.balancers == nil {
		return scopes, followed
	}
	var objects clusterObjects
	objects.services, _ = w.balancers.read()
	for _, watcher := range watchers {
		if watcher.ingresses != nil {
			ingresses, _ := watcher.ingresses.read()
			objects.ingresses = append(objects.ingresses, ingresses...)
		}
	}
	for _, ingress := range newIngresses(w.context, objects) {
		for _, id := range ingress.Controllers {
			if _, known := scopes[scope{namespace: id.Namespace}]; !known {
				scopes[scope{id.Namespace, id.Name}] = nil
				delete(followed, scope{id.Namespace, id.Name})
			}
		}
	}
	return scopes, followed
}

// scopesChangedLocked reports whether other scopes are wanted than those that have a
// watcher, or for another reason.
func (w *contextWatcher) scopesChangedLocked() bool {
	if w.cluster == nil {
		return false
	}
	wanted, followed := w.wantedScopesLocked(w.scopes)
	return len(wanted) != len(w.scopes) || !maps.Equal(followed, w.followed) || w.lacksScopeLocked()
}

// lacksScopeLocked reports whether a wanted scope has no watcher yet.
func (w *contextWatcher) lacksScopeLocked() bool {
	if w.cluster == nil {
		return false
	}
	wanted, _ := w.wantedScopesLocked(w.scopes)
	for at := range wanted {
		if w.scopes[at] == nil {
			return true
		}
	}
	return false
}

func (w *contextWatcher) stopLocked() {
	if w.balancers != nil {
		w.stopBalancers()
	}
	for _, watcher := range w.scopes {
		watcher.stop()
	}
	if w.clients != nil {
		w.clients.close()
	}
}

// scopes returns the scopes to read, each with the names of the Services to get
// one by one if the scope's Services can't be listed.
func (f Follow) scopes() map[scope][]string {
	scopes := make(map[scope][]string)
	for _, namespace := range f.Namespaces {
		scopes[scope{namespace: namespace}] = nil
	}
	if f.Namespaces == nil {
		scopes[scope{}] = nil
	}
	for _, service := range f.Services {
		namespace := scope{namespace: service.Namespace}
		if names, followed := scopes[namespace]; followed {
			scopes[namespace] = append(names, service.Name)
			continue
		}
		scopes[scope{service.Namespace, service.Name}] = nil
	}
	return scopes
}

func (w *contextWatcher) stateLocked() feedState {
	merged := feedState{settled: w.cluster != nil || w.loadErr != nil}
	for at, watcher := range w.scopes {
		s := watcher.state()
		if w.followed[at] {
			s.limitations = nil
		}
		merged.loaded = merged.loaded || s.loaded
		merged.merge(s)
	}
	return merged
}

// syncedLocked reports whether all scopes are synced.
func (w *contextWatcher) syncedLocked() bool {
	for _, watcher := range w.scopes {
		if !watcher.synced() {
			return false
		}
	}
	return true
}

// observeLocked updates the fields that depend on the state of the feeds. It is
// called when that may have changed.
func (w *contextWatcher) observeLocked() {
	switch s := w.stateLocked(); {
	case s.unreachable == nil:
		w.unreachable = nil
	case w.unreachable == nil:
		w.unreachable = s.unreachable
	}
	if len(w.retired) > 0 && w.syncedLocked() {
		w.retired = nil
	}
}

// problemsLocked returns the reasons why objects can't be read, a line each. An
// outage of the API server is one line, even if several feeds report it with
// different errors.
func (w *contextWatcher) problemsLocked() []string {
	s := w.stateLocked()
	if errors.As(s.unreachable, new(wrongPathError)) {
		return []string{s.unreachable.Error()} // nothing else that the server says counts
	}
	lines := make([]string, 0, len(s.limitations))
	for _, l := range s.limitations {
		if l.instead == "" {
			lines = append(lines, l.String())
		}
	}
	lines = append(lines, s.rejections...)
	if w.omitted > 0 {
		lines = append(lines, w.describeOmittedLocked())
	}
	for at, watcher := range w.scopes {
		services, ok := watcher.services.read()
		if ok && len(services) == 0 && at.namespace != "" && at.service == "" {
			lines = append(lines, w.describeEmptyLocked(at.namespace))
		}
	}
	if w.loadErr != nil {
		lines = append(lines, w.describeLoadErrLocked())
	}
	if w.cluster != nil {
		if text, _ := w.cluster.Gate.Waiting(); text != "" {
			lines = append(lines, text)
		}
	}
	if s.unreachable != nil {
		lines = append(lines, cmp.Or(w.unreachable, s.unreachable).Error())
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// notesLocked returns the limitations that have a replacement, a line each.
func (w *contextWatcher) notesLocked() (lines []string) {
	for _, l := range w.stateLocked().limitations {
		if l.instead != "" {
			lines = append(lines, l.String())
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// describeLoadErrLocked describes loadErr and its consequence.
func (w *contextWatcher) describeLoadErrLocked() string {
	text := w.loadErr.Error()
	if w.cluster == nil {
		return text
	}
	if missing := (noKubeconfigError{}); errors.As(w.loadErr, &missing) {
		text = fmt.Sprintf("context %s: kubeconfig %s not found", w.context, missing.paths)
	}
	return text + "; keeping the previous settings"
}

// describeEmptyLocked describes a namespace without Services.
func (w *contextWatcher) describeEmptyLocked(namespace string) string {
	if selector := strings.TrimSpace(w.want.Labels + " " + w.want.Fields); selector != "" {
		return fmt.Sprintf("no services match %s in namespace %s (context %s); waiting", selector, namespace, w.context)
	}
	return fmt.Sprintf("namespace %s not found or empty (context %s); waiting", namespace, w.context)
}

func (w *contextWatcher) statusLocked() plan.Cluster {
	status := plan.Cluster{Context: w.context, Read: w.settledNamespacesLocked(), Problems: w.problemsLocked(), Notes: w.notesLocked()}
	if w.cluster != nil {
		status.Server = w.cluster.Server()
	}
	return status
}

// settledNamespacesLocked returns the namespaces that were read, or can't be for
// a known reason. The empty name means all.
func (w *contextWatcher) settledNamespacesLocked() []string {
	namespaces := w.want.Namespaces
	if namespaces == nil {
		namespaces = []string{""}
	}
	failed := w.cluster == nil && w.loadErr != nil
	return slices.DeleteFunc(slices.Clone(namespaces), func(namespace string) bool {
		watcher := w.scopes[scope{namespace: namespace}]
		return !failed && (watcher == nil || !watcher.state().settled)
	})
}

// objectsLocked returns the objects of all scopes and, until these are synced, of
// the retired ones.
func (w *contextWatcher) objectsLocked() clusterObjects {
	synced := w.syncedLocked() // before the objects are read, because a list may arrive meanwhile
	var objects clusterObjects
	for _, watcher := range w.scopes {
		watcher.appendTo(&objects)
	}
	if synced {
		return objects
	}
	for _, watcher := range w.retired {
		watcher.appendTo(&objects)
	}
	return objects
}
