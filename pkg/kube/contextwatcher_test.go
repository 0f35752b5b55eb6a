package kube

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// hookReader is a reader whose hook runs whenever the state of its feed is read.
type hookReader struct {
	collection

	hook func()
}

func (r hookReader) missing() []denial {
	r.hook()
	return nil
}

// newTestScope returns a scopeWatcher that doesn't run.
func newTestScope(namespace string) *scopeWatcher {
	return newScopeWatcher(&clients{}, &Cluster{Context: "ctx"}, scope{namespace: namespace}, Follow{}, nil, func(bool) {}, func(bool) {})
}

// listed gives a scope its Services, as if they had been listed.
func (w *scopeWatcher) listed(t *testing.T, services ...any) {
	t.Helper()
	w.rights.settled = true
	if err := w.services.Replace(services, "1"); err != nil {
		t.Error(err)
	}
	if err := w.endpointSlices.Replace(nil, "1"); err != nil {
		t.Error(err)
	}
}

// A list that arrives while a snapshot is taken makes no Service disappear: the
// snapshot has the objects of the new scopes or of the retired ones.
func TestListDuringSnapshotLosesNoService(t *testing.T) {
	web := newTestService("web", "10.0.0.1", "1")
	for range 100 { // the order of the scopes is random
		first, second, retired := newTestScope("ns"), newTestScope("ns"), newTestScope("ns")
		first.listed(t)
		retired.listed(t, web)
		first.services.reader = hookReader{hook: func() { second.listed(t, web) }}
		w := &contextWatcher{
			scopes:  map[scope]*scopeWatcher{{namespace: "a"}: first, {namespace: "b"}: second},
			retired: map[scope]*scopeWatcher{{}: retired},
		}
		objects := w.objectsLocked()
		if !slices.ContainsFunc(objects.services, func(s *corev1.Service) bool { return s.Name == "web" }) {
			t.Fatal("the snapshot lacks the Service")
		}
	}
}

// While the API server is unreachable, any number of changes of the kubeconfig
// leave one retired watcher per scope, the one that has the objects.
func TestRetiredWatchersAreBounded(t *testing.T) {
	first := newTestScope("ns")
	first.listed(t, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"}})
	if !first.synced() {
		t.Fatal("the first watcher isn't synced")
	}
	at := scope{namespace: "ns"}
	w := &contextWatcher{}
	w.retireLocked(at, first)
	for range 100 {
		w.retireLocked(at, newTestScope("ns"))
	}
	if len(w.retired) != 1 || w.retired[at] != first {
		t.Errorf("got %d retired watchers, want the first", len(w.retired))
	}
}

// listedScope returns a watcher that has listed the Services.
func listedScope(t *testing.T, namespace string, services ...corev1.Service) *scopeWatcher {
	w := newTestScope(namespace)
	objects := make([]any, len(services))
	for i := range services {
		objects[i] = &services[i]
	}
	w.listed(t, objects...)
	return w
}

// Services that refer to each other are followed only as long as a Service of the
// configuration leads to them.
func TestCycleOfExternalNamesKeepsNothingAlive(t *testing.T) {
	a := external("a", "db", "db.b.svc.cluster.local")
	b := external("b", "db", "db.a.svc.cluster.local")
	for name, c := range map[string]struct {
		own  []corev1.Service
		want []scope
	}{
		"with a reference": {[]corev1.Service{external("ns", "db", "db.a.svc.cluster.local")}, []scope{{"a", "db"}, {"b", "db"}}},
		"without one":      {nil, []scope{}},
	} {
		watchers := map[scope]*scopeWatcher{{namespace: "ns"}: listedScope(t, "ns", c.own...), {"a", "db"}: listedScope(t, "a", a), {"b", "db"}: listedScope(t, "b", b)}
		if got, _ := externalScopes("ctx", watchers, map[scope][]string{{namespace: "ns"}: nil}); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

// Changes of objects start and stop no watchers, unless other scopes are to be read.
func TestOnlyOtherScopesCauseAResync(t *testing.T) {
	for name, c := range map[string]struct {
		service corev1.Service
		state   bool
		want    bool
	}{
		"a plain Service":                     {external("ns", "web", ""), false, false},
		"a reference in the same namespace":   {external("ns", "web", "db.ns.svc.cluster.local"), false, false},
		"a reference to another namespace":    {external("ns", "web", "db.other.svc.cluster.local"), false, true},
		"the ability to read objects changed": {external("ns", "web", ""), true, true},
	} {
		w := &contextWatcher{
			context: "ctx", cluster: &Cluster{Context: "ctx"}, want: Follow{Namespaces: []string{"ns"}},
			scopes: map[scope]*scopeWatcher{{namespace: "ns"}: listedScope(t, "ns", c.service)},
		}
		s := NewSource(nil, nil)
		s.watchers = []*contextWatcher{w}
		s.notifyScopes(w, c.state)
		got := false
		select {
		case <-s.resync.C():
			got = true
		default:
		}
		if got != c.want {
			t.Errorf("%s: got resync %t, want %t", name, got, c.want)
		}
	}
}
