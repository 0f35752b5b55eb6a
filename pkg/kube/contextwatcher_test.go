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
func newTestScope() *scopeWatcher {
	return newScopeWatcher(&clients{}, &Cluster{Context: "ctx"}, scope{namespace: "ns"}, Follow{}, nil, func(bool) {})
}

// listed gives a scope its Services, as if they had been listed.
func (w *scopeWatcher) listed(t *testing.T, services ...any) {
	t.Helper()
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
		first, second, retired := newTestScope(), newTestScope(), newTestScope()
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
	first := newTestScope()
	first.listed(t, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"}})
	if !first.synced() {
		t.Fatal("the first watcher isn't synced")
	}
	at := scope{namespace: "ns"}
	w := &contextWatcher{}
	w.retireLocked(at, first)
	for range 100 {
		w.retireLocked(at, newTestScope())
	}
	if len(w.retired) != 1 || w.retired[at] != first {
		t.Errorf("got %d retired watchers, want the first", len(w.retired))
	}
}
