package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/kubeshore/kubeshore/internal/backoff"
)

const (
	// pollEvery is how often is read what may not be watched.
	pollEvery = 10 * time.Second
	// retryDenied is how often is tried what may not be done at all.
	retryDenied = 30 * time.Second
	// minPause and maxPause are between two tries to reach the API server.
	minPause = 100 * time.Millisecond
	maxPause = 5 * time.Second
	// steadyTime is how long reading must have gone well for the pauses to be
	// short again.
	steadyTime = 10 * time.Second
)

// errNoWatch is what a reader says that can't watch at all.
var errNoWatch = errors.New("it can't be watched")

// reader reads one kind of object from the API server.
type reader interface {
	list(context.Context, metav1.ListOptions) (runtime.Object, error)
	watch(context.Context, metav1.ListOptions) (watch.Interface, error)
	// denied returns the denial of a verb.
	denied(verb string) denial
	// missing returns the denials of the objects that the last list lacks.
	missing() []denial
}

// feed keeps a store as the API server has it, by what the user may do: watch,
// or else list now and then. Where that is denied, another feed stands in.
type feed[T metav1.Object] struct {
	store[T]
	from    reader
	explain func(error) error // says what is wrong with the API server
	instead interface {       // stands in while listing is denied; may be nil
		run(context.Context)
		state() state
		listDenial() *denial
		forget()
	}
	standIn string // what it does, for the line that says so

	reflector *cache.Reflector
	endStead  func() // ends instead; nil while it isn't needed. run's alone

	mu      sync.Mutex
	away    error             // why the API server doesn't answer; nil if it does
	busy    bool              // that is as it has too much to do
	refused map[string]denial // by verb
}

// state is what there is to say of a feed.
type state struct {
	read   bool  // it has been
	asked  bool  // or it is known why not
	away   error // why the API server doesn't answer; nil if it does
	busy   bool  // that is as it has too much to do, which passes
	denied []limitation
}

// and adds what there is to say of another feed.
func (s *state) and(other state) {
	s.asked = s.asked && other.asked
	s.away = cmp.Or(s.away, other.away)
	s.busy = s.busy || other.busy
	s.denied = append(s.denied, other.denied...)
}

// newFeed returns a feed of objects like the one given. Its fields instead and
// standIn may be set before it runs.
func newFeed[T metav1.Object](like T, from reader, keep func(T) T, explain func(error) error, changed func()) *feed[T] {
	f := &feed[T]{
		store: store[T]{keep: keep, changed: changed}, from: from, explain: explain,
		refused: make(map[string]denial),
	}
	f.reflector = cache.NewReflectorWithOptions(&cache.ListWatch{
		ListWithContextFunc:  f.list,
		WatchFuncWithContext: f.watch,
	}, like, f, cache.ReflectorOptions{})
	return f
}

func (f *feed[T]) state() state {
	var s state
	s.read = f.loaded()
	f.mu.Lock()
	s.away, s.busy = f.away, f.busy
	list, listless := f.refused["list"]
	watch, watchless := f.refused["watch"]
	f.mu.Unlock()
	s.asked = s.read || s.away != nil && !s.busy || listless
	switch {
	case listless:
		limited := limitation{denial: list}
		if f.instead != nil {
			stead := f.instead.state()
			if limited.fallback = f.instead.listDenial(); limited.fallback != nil {
				stead.denied = nil
			} else {
				limited.instead = f.standIn
			}
			s.and(stead)
		}
		s.denied = append(s.denied, limited)
	case watchless:
		s.denied = append(s.denied, limitation{denial: watch, instead: fmt.Sprintf("listing them every %v", pollEvery)})
	}
	for _, d := range f.from.missing() {
		s.denied = append(s.denied, limitation{denial: d})
	}
	return s
}

// listDenial returns the denial of listing; nil if listing is allowed.
func (f *feed[T]) listDenial() *denial {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d, denied := f.refused["list"]; denied {
		return &d
	}
	return nil
}

// lost tells whether what was read isn't followed any more, as listing is denied.
func (f *feed[T]) lost() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, listless := f.refused["list"]
	return listless
}

// run reads until ctx ends.
func (f *feed[T]) run(ctx context.Context) {
	var standIn sync.WaitGroup
	defer standIn.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	delay := newBackoff()
	for ctx.Err() == nil {
		began := time.Now()
		err := f.reflector.ListAndWatchWithContext(ctx)
		if time.Since(began) > steadyTime {
			delay.Reset()
		}
		if !isDenied(err) {
			sleepJittered(ctx, &delay)
			continue
		}
		if f.instead != nil && f.endStead == nil {
			var inner context.Context
			inner, f.endStead = context.WithCancel(ctx) //nolint:gosec // Replace calls it; or ctx ends
			f.instead.forget()                          // of another time
			standIn.Go(func() { f.instead.run(inner) })
		}
		_ = backoff.Sleep(ctx, retryDenied) // the loop checks ctx
	}
}

// Replace takes the whole, and lets the feed that stood in go.
func (f *feed[T]) Replace(objects []any, version string) error {
	err := f.store.Replace(objects, version)
	if err == nil && f.endStead != nil {
		f.endStead()
		f.endStead = nil
	}
	return err
}

func (f *feed[T]) list(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	objects, err := f.from.list(ctx, options)
	f.note(ctx, "list", err)
	return objects, err
}

// watch watches. It waits itself for an API server that can't be reached: a
// reflector does so too, but with longer pauses than a user has patience for,
// and without saying so. Where watching is denied it returns a watch that ends
// when it is time to list again.
func (f *feed[T]) watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	options.Watch = true
	delay := newBackoff()
	for {
		w, err := f.from.watch(ctx, options)
		streams := options.SendInitialEvents != nil // which older servers don't know: then it is listed
		switch {
		case err == nil && streams:
			f.note(ctx, "list", nil)
			f.note(ctx, "watch", nil)
			return w, nil
		case err == nil:
			f.note(ctx, "watch", nil)
			return w, nil
		case streams && (isDenied(err) || errors.Is(err, errNoWatch)):
			return nil, err
		case isDenied(err):
			f.note(ctx, "watch", err)
			return newPause(pollEvery), nil
		case errors.Is(err, errNoWatch):
			return newPause(pollEvery), nil
		case ctx.Err() != nil, !isPassing(err):
			return nil, err
		}
		f.note(ctx, "watch", err)
		sleepJittered(ctx, &delay)
	}
}

// note takes what has come of a request.
func (f *feed[T]) note(ctx context.Context, verb string, err error) {
	if ctx.Err() != nil || isStale(err) {
		return
	}
	f.mu.Lock()
	was, away := f.refused[verb], f.away
	f.away, f.busy = nil, false
	delete(f.refused, verb)
	switch {
	case apierrors.IsNotFound(err):
		unserved := f.from.denied(verb)
		unserved.unserved = true
		f.refused[verb] = unserved
	case isDenied(err):
		f.refused[verb] = f.from.denied(verb)
	case err != nil:
		f.away, f.busy = f.explain(err), apierrors.IsTooManyRequests(err)
	}
	news := f.refused[verb] != was || (f.away == nil) != (away == nil)
	f.mu.Unlock()
	if news {
		f.changed()
	}
}

// isDenied tells whether the user may not do that, or nobody can: a server may
// not have the kind of object.
func isDenied(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsMethodNotSupported(err) || apierrors.IsNotFound(err)
}

// isPassing tells whether the same request may work a moment later.
func isPassing(err error) bool {
	if apierrors.ReasonForError(err) == metav1.StatusReasonUnknown && !errors.As(err, new(apierrors.APIStatus)) {
		return !errors.Is(err, context.Canceled) // it wasn't answered
	}
	return apierrors.IsUnauthorized(err) || apierrors.IsTooManyRequests(err) || apierrors.IsInternalError(err) ||
		apierrors.IsServiceUnavailable(err) || apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) && !isStale(err)
}

// isStale tells whether a request asked for a version that the API server
// doesn't have any more, or not yet: a reflector then begins anew.
func isStale(err error) bool {
	return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge)
}

func newBackoff() backoff.Backoff { return backoff.Backoff{Min: minPause, Max: maxPause} }

// sleepJittered waits for the next delay with full jitter, but for at least half
// of minPause, or until ctx ends.
func sleepJittered(ctx context.Context, delay *backoff.Backoff) {
	_ = backoff.Sleep(ctx, minPause/2+backoff.Jitter(delay.Next())) // the caller checks ctx
}

// pause is a watch that sees nothing, and ends after a time in such a way that
// a reflector lists again.
type pause struct {
	events chan watch.Event
	timer  *time.Timer
}

func newPause(d time.Duration) *pause {
	p := &pause{events: make(chan watch.Event, 1)}
	p.timer = time.AfterFunc(d, func() {
		status := apierrors.NewResourceExpired("it is time to list again").Status()
		p.events <- watch.Event{Type: watch.Error, Object: &status}
	})
	return p
}

func (p *pause) Stop() { p.timer.Stop() }

func (p *pause) ResultChan() <-chan watch.Event { return p.events }
