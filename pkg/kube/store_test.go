package kube

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func named(name, clusterIP, annotation string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Annotations: map[string]string{"a": annotation}, ResourceVersion: annotation},
		Spec:       corev1.ServiceSpec{ClusterIP: clusterIP},
	}
}

// Every change of what is kept is told, and no other; what was missed while
// nothing was read (deletions too) is made good by the next list.
func TestStore(t *testing.T) {
	told := 0
	s := store[*corev1.Service]{keep: keepService, changed: func() { told++ }}
	names := func() (names []string) {
		objects, _ := s.read()
		for _, o := range objects {
			names = append(names, o.Name+" "+o.Spec.ClusterIP)
		}
		slices.Sort(names)
		return names
	}
	if _, read := s.read(); read {
		t.Error("it was read before anything was")
	}
	for i, step := range []struct {
		do   func() error
		told bool
		want []string
	}{
		{func() error { return s.Replace(nil, "1") }, true, nil},
		{func() error { return s.Replace(nil, "2") }, false, nil},
		{func() error { return s.Add(named("a", "1", "x")) }, true, []string{"a 1"}},
		{func() error { return s.Update(named("a", "1", "y")) }, false, []string{"a 1"}},
		{func() error { return s.Update(named("a", "2", "y")) }, true, []string{"a 2"}},
		{func() error { return s.Add(named("b", "1", "x")) }, true, []string{"a 2", "b 1"}},
		{func() error { return s.Delete(named("a", "2", "y")) }, true, []string{"b 1"}},
		{func() error { return s.Replace([]any{named("b", "1", "z")}, "3") }, false, []string{"b 1"}},
		{func() error { return s.Replace([]any{named("c", "1", "z")}, "4") }, true, []string{"c 1"}},
	} {
		before := told
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got := names(); !slices.Equal(got, step.want) || told > before != step.told {
			t.Errorf("step %d: it has %q, told %v; want %q, %v", i, got, told > before, step.want, step.told)
		}
	}
	if objects, _ := s.read(); objects[0].Annotations != nil {
		t.Error("it keeps what nobody reads")
	}
	if err := s.Add(&corev1.Pod{}); err == nil {
		t.Error("it takes a pod")
	}
}
