package kube

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// store is what was last read of one kind of object. It is a
// cache.TransformingStore: a reflector writes, anyone may read.
type store[T metav1.Object] struct {
	keep    func(T) T // what is kept of an object; it must not change it
	changed func()    // called without the store's lock

	mu      sync.Mutex
	objects map[types.NamespacedName]T // nil as long as nothing was read
}

// read returns the objects, in no order, and whether they were ever read.
func (s *store[T]) read() ([]T, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.objects)), s.objects != nil
}

// loaded reports whether the objects were ever read.
func (s *store[T]) loaded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects != nil
}

// forget has it as if nothing was ever read.
func (s *store[T]) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects = nil
}

// Transformer lets a reflector throw away what isn't kept as it reads.
func (s *store[T]) Transformer() cache.TransformFunc {
	return func(object any) (any, error) {
		typed, err := s.typed(object)
		return typed, err
	}
}

func (s *store[T]) typed(object any) (kept T, err error) {
	typed, ok := object.(T)
	if !ok {
		return kept, fmt.Errorf("the API server sends a %T", object)
	}
	return s.keep(typed), nil
}

// Add is Update.
func (s *store[T]) Add(object any) error { return s.Update(object) }

// Update takes an object's new state. What isn't kept of it is no change.
func (s *store[T]) Update(object any) error {
	kept, err := s.typed(object)
	if err != nil {
		return err
	}
	s.mu.Lock()
	before, known := s.objects[nameOf(kept)]
	if s.objects != nil {
		s.objects[nameOf(kept)] = kept
	}
	s.mu.Unlock()
	if !known || !reflect.DeepEqual(before, kept) {
		s.changed()
	}
	return nil
}

// Delete takes an object away.
func (s *store[T]) Delete(object any) error {
	gone, err := s.typed(object)
	if err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.objects, nameOf(gone))
	s.mu.Unlock()
	s.changed()
	return nil
}

// Replace takes the whole.
func (s *store[T]) Replace(objects []any, _ string) error {
	all := make(map[types.NamespacedName]T, len(objects))
	for _, object := range objects {
		kept, err := s.typed(object)
		if err != nil {
			return err
		}
		all[nameOf(kept)] = kept
	}
	s.mu.Lock()
	same := s.objects != nil && reflect.DeepEqual(s.objects, all)
	s.objects = all
	s.mu.Unlock()
	if !same {
		s.changed()
	}
	return nil
}

// Resync has no meaning here.
func (*store[T]) Resync() error { return nil }

func nameOf(object metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: object.GetNamespace(), Name: object.GetName()}
}
