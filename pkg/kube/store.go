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

// store holds the objects of one kind as they were last read. It is a
// cache.TransformingStore, which a reflector writes to. Any goroutine may read it.
type store[T metav1.Object] struct {
	trim    func(T) T // returns a copy with the fields to hold
	changed func()    // called without the store's lock

	mu      sync.Mutex
	objects map[types.NamespacedName]T // nil until the first list
}

// read returns the objects, in no particular order, and whether they were listed.
func (s *store[T]) read() ([]T, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.objects)), s.objects != nil
}

// loaded reports whether the objects were listed.
func (s *store[T]) loaded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects != nil
}

// forget resets the store to its state before the first list.
func (s *store[T]) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects = nil
}

// Transformer lets a reflector trim each object as soon as it has decoded it.
func (s *store[T]) Transformer() cache.TransformFunc {
	return func(object any) (any, error) {
		trimmed, err := s.trimmed(object)
		return trimmed, err
	}
}

func (s *store[T]) trimmed(object any) (trimmed T, err error) {
	typed, ok := object.(T)
	if !ok {
		return trimmed, fmt.Errorf("API server sent an object of unexpected type %T", object)
	}
	return s.trim(typed), nil
}

// Add is Update.
func (s *store[T]) Add(object any) error { return s.Update(object) }

// Update stores an object. Changes of fields that are trimmed are not changes.
func (s *store[T]) Update(object any) error {
	trimmed, err := s.trimmed(object)
	if err != nil {
		return err
	}
	s.mu.Lock()
	before, known := s.objects[nameOf(trimmed)]
	if s.objects != nil {
		s.objects[nameOf(trimmed)] = trimmed
	}
	s.mu.Unlock()
	if !known || !reflect.DeepEqual(before, trimmed) {
		s.changed()
	}
	return nil
}

// Delete removes an object.
func (s *store[T]) Delete(object any) error {
	deleted, err := s.trimmed(object)
	if err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.objects, nameOf(deleted))
	s.mu.Unlock()
	s.changed()
	return nil
}

// Replace stores the result of a list.
func (s *store[T]) Replace(objects []any, _ string) error {
	replacement := make(map[types.NamespacedName]T, len(objects))
	for _, object := range objects {
		trimmed, err := s.trimmed(object)
		if err != nil {
			return err
		}
		replacement[nameOf(trimmed)] = trimmed
	}
	s.mu.Lock()
	same := s.objects != nil && reflect.DeepEqual(s.objects, replacement)
	s.objects = replacement
	s.mu.Unlock()
	if !same {
		s.changed()
	}
	return nil
}

// Resync does nothing.
func (*store[T]) Resync() error { return nil }

func nameOf(object metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: object.GetNamespace(), Name: object.GetName()}
}
