package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kubeshore/kubeshore/internal/wake"
	"github.com/kubeshore/kubeshore/pkg/credential"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

const (
	// initialSyncTimeout limits how long the first snapshot waits for the API
	// servers, not counting the time in which a credential plugin runs while no
	// cluster can be read. Clusters that take longer are added later.
	initialSyncTimeout = 10 * time.Second
	// reloadInterval is how often loading a context is retried if it is missing
	// from the kubeconfig, or invalid there.
	reloadInterval = 5 * time.Second
)

// Follow selects the objects to watch in one context.
type Follow struct {
	Context string // the kubeconfig's
	// Namespaces whose Services are followed; nil means all.
	Namespaces []string
	// Labels and Fields select Services, as kubectl's --selector and
	// --field-selector do; empty means all.
	Labels, Fields string
	// Services are additional Services to follow, in any namespace. They are read
	// by name where Services can't be listed.
	Services []types.NamespacedName
	// Ingresses makes the Source follow Ingresses too.
	Ingresses bool
}

// Source watches the Services, EndpointSlices and Ingresses of clusters. It is a
// fwd.Source. A cluster that is unreachable or denies access doesn't affect the
// others.
type Source struct {
	load       func(ctx context.Context, name string) (*Cluster, error)
	plugins    *credential.Plugins // of the clusters; nil if there are none
	changed    wake.Trigger
	resync     wake.Trigger  // fires when wanted or the kubeconfig has changed
	synced     chan struct{} // closed when the first snapshot is ready
	markSynced func()        // closes synced
	observing  atomic.Bool   // changes of objects have to be observed, because scopes are retired

	mu       sync.Mutex
	wanted   []Follow
	watchers []*contextWatcher // in the order of wanted
	reload   bool              // the kubeconfig may have changed
}

// NewSource returns a Source that watches nothing yet. load loads a context from
// the current kubeconfig, as [Kubeconfig.Load] does. plugins runs the clusters'
// credential plugins; it may be nil.
func NewSource(load func(ctx context.Context, name string) (*Cluster, error), plugins *credential.Plugins) *Source {
	s := &Source{
		load:    load,
		plugins: plugins,
		changed: wake.NewTrigger(),
		resync:  wake.NewTrigger(),
		synced:  make(chan struct{}),
	}
	s.markSynced = sync.OnceFunc(func() { close(s.synced) })
	return s
}

// Set replaces the selection of objects to watch. The order of contexts and
// namespaces is their precedence. Any goroutine may call it at any time.
func (s *Source) Set(want []Follow) {
	s.mu.Lock()
	s.wanted = slices.Clone(want)
	s.mu.Unlock()
	s.resync.Fire()
}

// Reload makes the Source read the kubeconfig again. Watches of unchanged contexts
// continue undisturbed. Any goroutine may call it at any time.
func (s *Source) Reload() {
	s.mu.Lock()
	s.reload = true
	s.mu.Unlock()
	s.resync.Fire()
}

// Changed receives a value when the snapshot may differ from the last one taken,
// and for the first time when the initial sync is complete.
func (s *Source) Changed() <-chan struct{} { return s.changed.C() }

// Ready waits for the initial sync: at most ten seconds, and for as long as nothing
// can be read before a credential plugin has run. It returns an error, in
// one line, only if no cluster can be read; a throttling API server is not an
// error, because its requests are retried. Run must be running.
func (s *Source) Ready(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.synced:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var problems []string
	for _, w := range s.watchers {
		state := w.stateLocked()
		if state.loaded || state.throttled {
			return nil
		}
		lines := w.problemsLocked()
		if errors.As(state.unreachable, new(*credential.Error)) {
			lines = []string{credential.GiveUp(state.unreachable).Error()}
		}
		if len(lines) == 0 {
			lines = []string{fmt.Sprintf("context %s: no response from the API server within %v", w.context, initialSyncTimeout)}
		}
		problems = append(problems, lines...)
	}
	return errors.New(strings.Join(problems, "; "))
}

// Cluster returns the named context as it was last loaded from the kubeconfig. A
// change results in another pointer.
func (s *Source) Cluster(name string) (*Cluster, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.watchers {
		if w.context == name && w.cluster != nil {
			return w.cluster, true
		}
	}
	return nil, false
}

// Run watches the objects selected by Set until ctx ends. It must be called once.
func (s *Source) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	timeout := time.NewTimer(initialSyncTimeout)
	defer timeout.Stop()
	for {
		var plugins <-chan struct{}
		if s.plugins != nil {
			plugins = s.plugins.Changed() // before their state is read
		}
		var retry <-chan time.Time
		if !s.reconcile(ctx, &running) {
			retry = time.After(reloadInterval)
		}
		s.notify(true)
		select {
		case <-ctx.Done():
			return nil
		case <-s.resync.C():
		case <-retry:
		case <-plugins:
			timeout.Reset(initialSyncTimeout) // the API server's response follows
		case <-timeout.C:
			if s.asking() {
				timeout.Reset(initialSyncTimeout)
				continue
			}
			s.markSynced()
		}
	}
}

// asking reports whether a credential plugin is running, and no cluster can be read
// without it.
func (s *Source) asking() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	asking := false
	for _, w := range s.watchers {
		if w.stateLocked().loaded {
			return false
		}
		if w.cluster != nil {
			_, waiting := w.cluster.Gate.Waiting()
			asking = asking || waiting
		}
	}
	return asking
}

// reconcile starts and stops watchers to match s.wanted. It reports whether all
// contexts could be loaded.
func (s *Source) reconcile(ctx context.Context, running *sync.WaitGroup) bool {
	s.mu.Lock()
	wanted, reload := s.wanted, s.reload
	before := s.watchers
	s.reload = false
	s.mu.Unlock()
	complete := true
	after := make([]*contextWatcher, 0, len(wanted))
	for _, want := range wanted {
		i := slices.IndexFunc(before, func(w *contextWatcher) bool { return w.context == want.Context })
		w := &contextWatcher{context: want.Context}
		if i >= 0 {
			w = before[i]
		}
		var loaded *Cluster
		var err error
		if reload || w.cluster == nil || w.loadErr != nil {
			loaded, err = s.load(ctx, want.Context)
		}
		s.mu.Lock()
		scopesChanged := changeFunc(s.notify)
		if want.Ingresses || want.Namespaces != nil || len(want.Services) > 0 || want.Labels+want.Fields != "" {
			scopesChanged = func(state bool) { s.notifyScopes(w, state) }
		}
		changed := func(state bool) {
			if state { // what can't be read may have to be read in another way
				scopesChanged(state)
				return
			}
			s.notify(state)
		}
		w.updateLocked(ctx, running, want, loaded, err, changed, scopesChanged)
		complete = complete && w.loadErr == nil
		s.mu.Unlock()
		after = append(after, w)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range before {
		if !slices.Contains(after, w) {
			w.stopLocked()
		}
	}
	s.watchers = after
	s.observing.Store(true) // until the next change shows that no scope is retired
	return complete
}

// notify announces that the snapshot may have changed, after the initial sync.
// state reports that the ability to read objects may have changed; changes of
// objects alone are frequent, and need no look at all feeds.
func (s *Source) notify(state bool) {
	if state || s.observing.Load() {
		s.observe()
	}
	select {
	case <-s.synced:
	default:
		if !s.settled() {
			return
		}
		s.markSynced()
	}
	s.changed.Fire()
}

// notifyScopes is notify for changes after which a single Service may have to be read:
// an Ingress's controller, an ExternalName's target, or because listing is denied.
func (s *Source) notifyScopes(w *contextWatcher, state bool) {
	s.notify(state)
	s.mu.Lock()
	resync := state || w.scopesChangedLocked()
	s.mu.Unlock()
	if resync {
		s.resync.Fire()
	}
}

// observe updates the state of all contexts.
func (s *Source) observe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	retired := false
	for _, w := range s.watchers {
		w.observeLocked()
		retired = retired || len(w.retired) > 0
	}
	s.observing.Store(retired)
}

// settled reports whether all contexts were read, or can't be for a known reason.
func (s *Source) settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.watchers) > 0 && !slices.ContainsFunc(s.watchers, func(w *contextWatcher) bool {
		return !w.stateLocked().settled || w.lacksScopeLocked()
	})
}

// Snapshot returns the current state of all contexts.
func (s *Source) Snapshot() plan.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	var snapshot plan.Snapshot
	for _, w := range s.watchers {
		snapshot.Clusters = append(snapshot.Clusters, w.statusLocked())
		objects := w.objectsLocked() // after the status: a namespace that counts as read is complete
		snapshot.Services = append(snapshot.Services, newServices(w.context, objects)...)
		snapshot.Ingresses = append(snapshot.Ingresses, newIngresses(w.context, objects)...)
	}
	return snapshot
}
