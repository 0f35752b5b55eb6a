package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kubeshore/kubeshore/internal/wake"
	"github.com/kubeshore/kubeshore/pkg/plan"
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
	// Services are additional Services to follow, in any namespace. They are read
	// by name where Services can't be listed.
	Services []types.NamespacedName
	// Ingresses says that these are followed too.
	Ingresses bool
}

// Source follows the Services, EndpointSlices and Ingresses of some clusters.
// It is a fwd.Source. One that is away or doesn't let the user read doesn't
// keep the others from being followed.
type Source struct {
	load    func(context string) (*Cluster, error)
	changed wake.Trigger
	due     wake.Trigger  // fires when wanted has changed, or the kubeconfig
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
		changed: wake.NewTrigger(),
		due:     wake.NewTrigger(),
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
	s.due.Fire()
}

// Reload has the kubeconfig read again. Contexts that are the same as before
// are followed on undisturbed. It may be called at any time.
func (s *Source) Reload() {
	s.mu.Lock()
	s.reload = true
	s.mu.Unlock()
	s.due.Fire()
}

// Changed receives a value when the snapshot may differ from the last one
// taken; the first, once everything was read that could be.
func (s *Source) Changed() <-chan struct{} { return s.changed.C() }

// Ready waits until everything was read that can be, or for ten seconds. It
// returns an error, a line that says why, if nothing can be read at all; an API
// server that has too much to do is asked on. Run must be running.
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
		if state.read || state.busy {
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
		case <-s.due.C():
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
		if want.Ingresses || want.Namespaces == nil && len(want.Services) > 0 {
			changed = func() {
				s.notify()
				s.due.Fire() // a Service may have to be read by itself: an Ingress's, or as listing is denied
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
	s.mu.Lock()
	for _, f := range s.followers {
		f.observe()
	}
	s.mu.Unlock()
	select {
	case <-s.settled:
	default:
		if !s.complete() {
			return
		}
		s.settle()
	}
	s.changed.Fire()
}

// complete tells whether all that is followed was read, or can't be.
func (s *Source) complete() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.followers) > 0 && !slices.ContainsFunc(s.followers, func(f *follower) bool { return !f.state().asked || f.behind() })
}

// Snapshot returns what is known now.
func (s *Source) Snapshot() plan.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	var snapshot plan.Snapshot
	for _, f := range s.followers {
		snapshot.Clusters = append(snapshot.Clusters, f.status())
		known := f.known()
		snapshot.Services = append(snapshot.Services, newServices(f.context, known)...)
		snapshot.Ingresses = append(snapshot.Ingresses, newIngresses(f.context, known)...)
	}
	return snapshot
}
