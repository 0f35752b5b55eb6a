package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubeshore/kubeshore/pkg/plan"
)

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
	stop context.CancelFunc
}

// update has the follower follow what is wanted, of the cluster that was loaded.
func (f *follower) update(ctx context.Context, running *sync.WaitGroup, want Follow, loaded *Cluster, err error, changed func()) {
	f.fault = err
	fresh := loaded != nil && !loaded.same(f.cluster)
	if fresh {
		clients, err := newClients(loaded)
		if err != nil {
			f.fault = fmt.Errorf("context %s: %w", f.context, oneLine(err))
			if f.cluster == nil {
				f.want = want
			}
			return
		}
		if f.clients != nil {
			defer f.clients.close()
		}
		f.cluster, f.clients = loaded, clients
	}
	if f.cluster == nil {
		f.want = want
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
// Ingresses which were read so far are reached through. Where all namespaces are
// read, single Services are only if that is denied, or leaves some out.
func (f *follower) allScopes(read map[scope]*entry) map[scope][]string {
	scopes := f.want.scopes()
	if all := read[scope{}]; f.want.Namespaces == nil && f.want.Labels+f.want.Fields == "" && (all == nil || !all.lost()) {
		return map[scope][]string{{}: nil}
	}
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

// behind tells whether there is something to read that isn't read yet.
func (f *follower) behind() bool {
	if f.cluster == nil {
		return false
	}
	for at := range f.allScopes(f.scopes) {
		if f.scopes[at] == nil {
			return true
		}
	}
	return false
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
		whole := scope{namespace: service.Namespace}
		names, followed := scopes[whole]
		switch {
		case followed:
			scopes[whole] = append(names, service.Name)
		default:
			scopes[scope{service.Namespace, service.Name}] = nil
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
	lines := make([]string, 0, len(s.denied))
	for _, limited := range s.denied {
		lines = append(lines, limited.String())
	}
	for at, e := range f.scopes {
		services, ok := e.services.read()
		if ok && len(services) == 0 && at.namespace != "" && at.service == "" {
			lines = append(lines, f.empty(at.namespace))
		}
	}
	if f.fault != nil {
		lines = append(lines, f.unloaded())
	}
	if s.away != nil {
		lines = append(lines, cmp.Or(f.away, s.away).Error())
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// unloaded says why the context can't be loaded, and what comes of that.
func (f *follower) unloaded() string {
	text := f.fault.Error()
	if f.cluster == nil {
		return text
	}
	if missing := (missingError{}); errors.As(f.fault, &missing) {
		text = fmt.Sprintf("context %s: its kubeconfig (%s) is gone", f.context, missing.paths)
	}
	return text + "; what was known of the cluster is used until it can be read again"
}

// empty says that there is nothing in a namespace.
func (f *follower) empty(namespace string) string {
	if selector := strings.TrimSpace(f.want.Labels + " " + f.want.Fields); selector != "" {
		return fmt.Sprintf("no services with %s in namespace %s of context %s; waiting", selector, namespace, f.context)
	}
	return fmt.Sprintf("no services in namespace %s of context %s, or it doesn't exist; waiting", namespace, f.context)
}

func (f *follower) status() plan.Cluster {
	status := plan.Cluster{Context: f.context, Read: f.read(), Problems: f.problems()}
	if f.cluster != nil {
		status.Server = f.cluster.Server()
	}
	return status
}

// read returns the namespaces that were read, or of which it is known why they can't be;
// the empty name if all are followed at once.
func (f *follower) read() []string {
	namespaces := f.want.Namespaces
	if namespaces == nil {
		namespaces = []string{""}
	}
	return slices.DeleteFunc(slices.Clone(namespaces), func(namespace string) bool {
		e := f.scopes[scope{namespace: namespace}]
		unloaded := f.cluster == nil && f.fault != nil
		return !unloaded && (e == nil || !e.state().asked)
	})
}

// known returns what is known of the cluster.
func (f *follower) known() known {
	var all known
	for _, e := range f.scopes {
		e.add(&all)
	}
	if f.settled() {
		return all
	}
	for _, e := range f.leaving {
		e.add(&all)
	}
	return all
}

// settled tells whether all scopes were read.
func (f *follower) settled() bool {
	for _, e := range f.scopes {
		if !e.settled() {
			return false
		}
	}
	return true
}

// observe records why the API server doesn't answer, and lets what is no longer
// needed go.
func (f *follower) observe() {
	switch s := f.state(); {
	case s.away == nil:
		f.away = nil
	case f.away == nil:
		f.away = s.away
	}
	if len(f.leaving) > 0 && f.settled() {
		f.leaving = nil
	}
}
