package kube

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func newTestService(name, clusterIP, annotation string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Annotations: map[string]string{"a": annotation}, ResourceVersion: annotation},
		Spec:       corev1.ServiceSpec{ClusterIP: clusterIP},
	}
}

// Only changes of fields that are held are reported. A list also makes up for
// events that were missed, deletions included.
func TestStoreReportsChanges(t *testing.T) {
	changes := 0
	s := store[*corev1.Service]{trim: trimService, check: collection{resource: "services"}.check, changed: func() { changes++ }}
	names := func() (names []string) {
		objects, _ := s.read()
		for _, o := range objects {
			names = append(names, o.Name+" "+o.Spec.ClusterIP)
		}
		slices.Sort(names)
		return names
	}
	if _, listed := s.read(); listed {
		t.Error("before the first list: got listed = true, want false")
	}
	for i, step := range []struct {
		do      func() error
		changed bool
		want    []string
	}{
		{func() error { return s.Replace(nil, "1") }, true, nil},
		{func() error { return s.Replace(nil, "2") }, false, nil},
		{func() error { return s.Add(newTestService("a", "1", "x")) }, true, []string{"a 1"}},
		{func() error { return s.Update(newTestService("a", "1", "y")) }, false, []string{"a 1"}},
		{func() error { return s.Update(newTestService("a", "2", "y")) }, true, []string{"a 2"}},
		{func() error { return s.Add(newTestService("b", "1", "x")) }, true, []string{"a 2", "b 1"}},
		{func() error { return s.Delete(newTestService("a", "2", "y")) }, true, []string{"b 1"}},
		{func() error { return s.Replace([]any{newTestService("b", "1", "z")}, "3") }, false, []string{"b 1"}},
		{func() error { return s.Replace([]any{newTestService("c", "1", "z")}, "4") }, true, []string{"c 1"}},
		{func() error { return s.Add(newTestService("../c", "1", "z")) }, true, []string{"c 1"}}, // reported as ignored
		{func() error {
			return s.Replace([]any{newTestService("c", "1", "z"), newTestService("a/b", "1", "z")}, "5")
		}, false, []string{"c 1"}},
		{func() error { return s.Replace([]any{newTestService("c", "1", "z")}, "6") }, true, []string{"c 1"}},
	} {
		before := changes
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got := names(); !slices.Equal(got, step.want) || changes > before != step.changed {
			t.Errorf("step %d: got %q, changed %v; want %q, %v", i, got, changes > before, step.want, step.changed)
		}
	}
	if objects, _ := s.read(); objects[0].Annotations != nil {
		t.Errorf("annotations: got %v, want none", objects[0].Annotations)
	}
	if err := s.Add(&corev1.Pod{}); err == nil {
		t.Error("Add of a Pod: got no error, want one")
	}
}
