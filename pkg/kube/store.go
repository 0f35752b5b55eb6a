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
	trim    func(T) T                 // returns a copy with the fields to hold
	check   func(metav1.Object) error // returns why an object must be ignored
	changed func()                    // called without the store's lock

	mu       sync.Mutex
	objects  map[types.NamespacedName]T // nil until the first list
	rejected error                      // why an object was ignored since the last list; nil if none was
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

// rejection returns why an object was ignored; nil if none was.
func (s *store[T]) rejection() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rejected
}

// forget resets the store to its state before the first list.
func (s *store[T]) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects, s.rejected = nil, nil
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

// Update stores an object, unless it has to be ignored. Changes of fields that are
// trimmed are not changes.
func (s *store[T]) Update(object any) error {
	trimmed, err := s.trimmed(object)
	if err != nil {
		return err
	}
	if err := s.check(trimmed); err != nil {
		s.mu.Lock()
		s.rejected = err
		s.mu.Unlock()
		s.changed()
		return nil //nolint:nilerr // the state reports it
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

// Replace stores the result of a list, without the objects that have to be ignored.
func (s *store[T]) Replace(objects []any, _ string) error {
	replacement := make(map[types.NamespacedName]T, len(objects))
	var rejected error
	for _, object := range objects {
		trimmed, err := s.trimmed(object)
		if err != nil {
			return err
		}
		if err := s.check(trimmed); err != nil {
			rejected = err
			continue
		}
		replacement[nameOf(trimmed)] = trimmed
	}
	s.mu.Lock()
	same := s.objects != nil && reflect.DeepEqual(s.objects, replacement) && (s.rejected == nil) == (rejected == nil)
	s.objects, s.rejected = replacement, rejected
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
