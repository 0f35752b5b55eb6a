package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubeshore/kubeshore/pkg/fwd"
)

const (
	// firstSync is how long the first snapshot waits for an API server's first
	// answer, or for why there is none. What takes longer is followed when it is
	// there.
	firstSync = 10 * time.Second
	// reloadEvery is how often a context is looked for that the kubeconfig
	// doesn't have, or has wrong.
	reloadEvery = 5 * time.Second
)

// Follow says what is to be followed of one context.
type Follow struct {
	Context string // the kubeconfig's
	// Namespaces are those whose Services are followed; nil means all.
	Namespaces []string
	// Labels and Fields select Services, as kubectl's --selector and
	// --field-selector do; empty: all.
	Labels, Fields string
	// Services are Services, as name.namespace, that are followed whatever the
	// namespaces are. Where Services can't be listed they are asked for by name.
	Services []string
	// Ingresses says that these are followed too.
	Ingresses bool
}

// Source follows the Services, EndpointSlices and Ingresses of some clusters.
// It is a fwd.Source. One that is away or doesn't let the user read doesn't
// keep the others from being followed.
type Source struct {
	load    func(context string) (*Cluster, error)
	changed chan struct{}
	due     chan struct{} // receives when wanted has changed, or the kubeconfig
	settled chan struct{} // closed when the first snapshot may be taken
	settle  func()

	mu        sync.Mutex
	wanted    []Follow
	followers []*follower // in the order of wanted
	reload    bool        // the kubeconfig may have changed
}

// NewSource returns a source that follows nothing yet. load finds a context in
// the kubeconfig as it is now, as Load does.
func NewSource(load func(context string) (*Cluster, error)) *Source {
	s := &Source{
		load:    load,
		changed: make(chan struct{}, 1),
		due:     make(chan struct{}, 1),
		settled: make(chan struct{}),
	}
	s.settle = sync.OnceFunc(func() { close(s.settled) })
	return s
}

// Set makes want the whole of what is followed, in the order in which contexts
// and namespaces count. It may be called at any time.
func (s *Source) Set(want []Follow) {
	s.mu.Lock()
	s.wanted = slices.Clone(want)
	s.mu.Unlock()
	poke(s.due)
}

// Reload has the kubeconfig read again. Contexts that are the same as before
// are followed on undisturbed. It may be called at any time.
func (s *Source) Reload() {
	s.mu.Lock()
	s.reload = true
	s.mu.Unlock()
	poke(s.due)
}

// Changed receives a value when the snapshot may differ from the last one
// taken; the first, once everything was read that could be.
func (s *Source) Changed() <-chan struct{} { return s.changed }

// Ready waits until everything was read that can be, or for ten seconds. It
// returns an error, a line that says why, if nothing can be read at all. Run
// must be running.
func (s *Source) Ready(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.settled:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var faults []string
	for _, f := range s.followers {
		state := f.state()
		if state.read {
			return nil
		}
		problems := f.problems()
		if len(problems) == 0 {
			problems = []string{fmt.Sprintf("context %s: the API server doesn't answer within %v", f.context, firstSync)}
		}
		faults = append(faults, problems...)
	}
	return errors.New(strings.Join(faults, "; "))
}

// Cluster returns the context of that name as the kubeconfig last had it. A
// change gives another pointer.
func (s *Source) Cluster(context string) (*Cluster, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.followers {
		if f.context == context && f.cluster != nil {
			return f.cluster, true
		}
	}
	return nil, false
}

// Run follows what it is told by Set until ctx ends. It must be called once.
func (s *Source) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	begin := time.AfterFunc(firstSync, func() { s.settle(); s.notify() })
	defer begin.Stop()
	for {
		var again <-chan time.Time
		if !s.reconcile(ctx, &running) {
			again = time.After(reloadEvery)
		}
		s.notify()
		select {
		case <-ctx.Done():
			return nil
		case <-s.due:
		case <-again:
		}
	}
}

// reconcile starts to follow what is wanted, and ends what isn't any more. It
// is false if a context can't be loaded.
func (s *Source) reconcile(ctx context.Context, running *sync.WaitGroup) bool {
	s.mu.Lock()
	wanted, reload := s.wanted, s.reload
	before := s.followers
	s.reload = false
	s.mu.Unlock()
	complete := true
	after := make([]*follower, 0, len(wanted))
	for _, want := range wanted {
		i := slices.IndexFunc(before, func(f *follower) bool { return f.context == want.Context })
		f := &follower{context: want.Context}
		if i >= 0 {
			f = before[i]
		}
		var loaded *Cluster
		var err error
		if reload || f.cluster == nil || f.fault != nil {
			loaded, err = s.load(want.Context)
		}
		s.mu.Lock()
		changed := s.notify
		if want.Ingresses {
			changed = func() {
				s.notify()
				poke(s.due) // an Ingress may lead to a Service that isn't followed yet
			}
		}
		f.update(ctx, running, want, loaded, err, changed)
		complete = complete && f.fault == nil
		s.mu.Unlock()
		after = append(after, f)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range before {
		if !slices.Contains(after, f) {
			f.end()
		}
	}
	s.followers = after
	return complete
}

// notify says that the snapshot may have changed, once the first may be taken.
func (s *Source) notify() {
	select {
	case <-s.settled:
	default:
		if !s.complete() {
			return
		}
		s.settle()
	}
	poke(s.changed)
}

// complete tells whether all that is followed was read, or can't be.
func (s *Source) complete() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.followers) > 0 && !slices.ContainsFunc(s.followers, func(f *follower) bool { return !f.state().asked })
}

// Snapshot returns what is known now.
func (s *Source) Snapshot() fwd.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	var snapshot fwd.Snapshot
	for _, f := range s.followers {
		snapshot.Clusters = append(snapshot.Clusters, f.status())
		known := f.known()
		snapshot.Services = append(snapshot.Services, newServices(f.context, known)...)
		snapshot.Ingresses = append(snapshot.Ingresses, newIngresses(f.context, known)...)
	}
	return snapshot
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is said already
	}
}

// follower follows one context. Its source's mu guards it.
type follower struct {
	context string
	want    Follow
	cluster *Cluster // as it was last loaded; nil if it never was
	clients *clients
	fault   error // why it can't be loaded
	// balancers are the Services of all namespaces that have a load balancer: one
	// of them may be an Ingress controller's. It is nil if none is looked for.
	balancers     *feed[*corev1.Service]
	stopBalancers context.CancelFunc
	away          error // why its API server doesn't answer, as it was first said; nil if it does
	scopes        map[scope]*entry
	leaving       []*entry // what they knew stands until those in scopes have read theirs
}

// entry is what reads one scope.
type entry struct {
	*following
	stop   context.CancelFunc
	before *following // what read it until the cluster's configuration changed
}

// update has the follower follow what is wanted, of the cluster that was loaded.
func (f *follower) update(ctx context.Context, running *sync.WaitGroup, want Follow, loaded *Cluster, err error, changed func()) {
	f.fault = err
	fresh := loaded != nil && !loaded.same(f.cluster)
	if fresh {
		clients, err := newClients(loaded)
		if err != nil {
			f.fault = fmt.Errorf("context %s: %w", f.context, oneLine(err))
			return
		}
		if f.clients != nil {
			defer f.clients.close()
		}
		f.cluster, f.clients = loaded, clients
	}
	if f.cluster == nil {
		return
	}
	fresh = fresh || want.Labels != f.want.Labels || want.Fields != f.want.Fields || want.Ingresses != f.want.Ingresses ||
		!slices.Equal(want.Services, f.want.Services)
	f.want = want
	f.followBalancers(ctx, running, fresh, changed)
	before := f.scopes
	f.scopes = make(map[scope]*entry)
	for at, names := range f.allScopes(before) {
		e, ok := before[at]
		if !ok || fresh {
			next := &entry{following: newFollowing(f.clients, f.cluster, at, want, names, changed)}
			if ok {
				next.before = e.known()
			}
			var inner context.Context
			inner, next.stop = context.WithCancel(ctx)
			running.Go(func() { next.run(inner) })
			e = next
		} else {
			delete(before, at)
		}
		f.scopes[at] = e
	}
	for _, e := range before {
		e.stop()
		f.leaving = append(f.leaving, e)
	}
}

// followBalancers looks for the Services of Ingress controllers in all namespaces,
// if there are Ingresses to follow and not all namespaces are followed anyway.
// The user may well not read those: then there are none.
func (f *follower) followBalancers(ctx context.Context, running *sync.WaitGroup, fresh bool, changed func()) {
	wanted := f.want.Ingresses && f.want.Namespaces != nil
	if f.balancers != nil && (fresh || !wanted) {
		f.stopBalancers()
		f.balancers = nil
	}
	if !wanted || f.balancers != nil {
		return
	}
	cluster := f.cluster
	f.balancers = newFeed(&corev1.Service{}, collection{
		client: f.clients.core, resource: "services", fields: "spec.type=LoadBalancer", context: f.context,
	}, keepService, func(err error) error { return explain(err, cluster) }, changed)
	balancers := f.balancers
	var inner context.Context
	inner, f.stopBalancers = context.WithCancel(ctx)
	running.Go(func() { balancers.run(inner) })
}

// allScopes returns what is to be read: what is wanted, and the Services that the
// Ingresses which were read so far are reached through.
func (f *follower) allScopes(read map[scope]*entry) map[scope][]string {
	scopes := f.want.scopes()
	if f.balancers == nil {
		return scopes
	}
	var all known
	all.services, _ = f.balancers.read()
	for _, e := range read {
		if e.ingresses != nil {
			ingresses, _ := e.ingresses.read()
			all.ingresses = append(all.ingresses, ingresses...)
		}
	}
	for _, ingress := range newIngresses(f.context, all) {
		for _, id := range ingress.Controllers {
			if _, followed := scopes[scope{namespace: id.Namespace}]; !followed {
				scopes[scope{id.Namespace, id.Name}] = nil
			}
		}
	}
	return scopes
}

func (f *follower) end() {
	if f.balancers != nil {
		f.stopBalancers()
	}
	for _, e := range f.scopes {
		e.stop()
	}
	if f.clients != nil {
		f.clients.close()
	}
}

// known returns what has something to say of the scope.
func (e *entry) known() *following {
	if e.before != nil && !e.settled() {
		return e.before
	}
	e.before = nil
	return e.following
}

// settled tells whether all was read that may be.
func (e *entry) settled() bool {
	s := e.state()
	return s.asked && s.away == nil
}

// scopes returns what is to be read, with the names of the Services that are
// asked for one by one where they can't be listed.
func (w Follow) scopes() map[scope][]string {
	scopes := make(map[scope][]string)
	for _, namespace := range w.Namespaces {
		scopes[scope{namespace: namespace}] = nil
	}
	if w.Namespaces == nil {
		scopes[scope{}] = nil
	}
	for _, service := range w.Services {
		name, namespace, _ := strings.Cut(service, ".")
		whole := scope{namespace: namespace}
		names, followed := scopes[whole]
		switch {
		case followed:
			scopes[whole] = append(names, name)
		default:
			scopes[scope{namespace, name}] = nil
		}
	}
	return scopes
}

func (f *follower) state() state {
	all := state{asked: f.cluster != nil || f.fault != nil}
	for _, e := range f.scopes {
		s := e.state()
		all.read = all.read || s.read
		all.and(s)
	}
	return all
}

// problems returns what can't be read, and why, a line each. An API server that
// is away has one line, however many ask it and whatever each of them hears.
func (f *follower) problems() []string {
	s := f.state()
	if s.away == nil {
		f.away = nil
	} else if f.away == nil {
		f.away = s.away
	}
	lines := s.denied
	for at, e := range f.scopes {
		services, ok := e.known().services.read()
		if ok && len(services) == 0 && at.namespace != "" && at.service == "" {
			lines = append(lines, f.empty(at.namespace))
		}
	}
	for _, err := range []error{f.fault, f.away} {
		if err != nil {
			lines = append(lines, err.Error())
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// empty says that there is nothing in a namespace.
func (f *follower) empty(namespace string) string {
	if selector := strings.TrimSpace(f.want.Labels + " " + f.want.Fields); selector != "" {
		return fmt.Sprintf("no services with %s in namespace %s of context %s; waiting", selector, namespace, f.context)
	}
	return fmt.Sprintf("no services in namespace %s of context %s, or it doesn't exist; waiting", namespace, f.context)
}

func (f *follower) status() fwd.Cluster {
	status := fwd.Cluster{Context: f.context, Problems: f.problems()}
	if f.cluster != nil {
		status.Server = f.cluster.Server()
	}
	return status
}

// known returns what is known of the cluster.
func (f *follower) known() known {
	var all known
	settled := true
	for _, e := range f.scopes {
		e.known().add(&all)
		settled = settled && e.settled()
	}
	if settled {
		f.leaving = nil
	}
	for _, e := range f.leaving {
		e.known().add(&all)
	}
	return all
}
