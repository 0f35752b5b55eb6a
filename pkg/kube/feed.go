package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
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
	// relistInterval is how often objects that can't be watched are listed.
	relistInterval = 10 * time.Second
	// deniedInterval is how often a denied list is retried.
	deniedInterval = 30 * time.Second
	// minReadDelay and maxReadDelay limit the backoff between failed requests.
	minReadDelay = 100 * time.Millisecond
	maxReadDelay = 5 * time.Second
	// stableWindow is how long a feed must have worked for its backoff to start
	// from minReadDelay again.
	stableWindow = 10 * time.Second
)

// errNoWatch is the error of a reader that doesn't support watching.
var errNoWatch = errors.New("watch not supported")

// reader reads objects of one kind from the API server.
type reader interface {
	list(context.Context, metav1.ListOptions) (runtime.Object, error)
	watch(context.Context, metav1.ListOptions) (watch.Interface, error)
	// check returns why an object in a response must be ignored; nil if it is valid.
	check(metav1.Object) error
	// denial describes a denial of the verb.
	denial(verb string) denial
	// missing returns the denials of objects that the last list lacks.
	missing() []denial
}

// feed keeps a store up to date as far as the user's permissions allow: it watches
// or, where that is denied, lists periodically. While listing is denied its
// fallback runs.
type feed[T metav1.Object] struct {
	store[T]
	reader   reader
	explain  func(error) error // describes an error of the API server for the user
	fallback interface {       // may be nil
		run(context.Context)
		state() feedState
		listDenial() *denial
		forget()
	}
	fallbackText string // describes the fallback to the user
	stateChanged func() // called when the ability to read has changed

	reflector    *cache.Reflector
	stopFallback func() // nil unless the fallback is running; used only by run's goroutine

	mu          sync.Mutex
	unreachable error             // why the API server doesn't respond; nil if it does
	throttled   bool              // unreachable is a response that it is overloaded
	denials     map[string]denial // by verb
}

// feedState is the state of one feed, or of several.
type feedState struct {
	loaded      bool  // a list was read
	settled     bool  // a list was read, or the reason why not is known
	unreachable error // why the API server doesn't respond; nil if it does
	throttled   bool  // unreachable is a temporary overload of the API server
	limitations []limitation
	rejections  []string // why objects were ignored, a line each
}

// merge adds the state of another feed, except for loaded.
func (s *feedState) merge(other feedState) {
	s.settled = s.settled && other.settled
	s.unreachable = cmp.Or(s.unreachable, other.unreachable)
	s.throttled = s.throttled || other.throttled
	s.limitations = append(s.limitations, other.limitations...)
	s.rejections = append(s.rejections, other.rejections...)
}

// changeFunc is called when objects, or (state) the ability to read them, have
// changed.
type changeFunc func(state bool)

// newFeed returns a feed of objects of example's type. Its fallback and
// fallbackText may be set before it runs.
func newFeed[T metav1.Object](example T, from reader, trim func(T) T, explain func(error) error, changed changeFunc) *feed[T] {
	f := &feed[T]{
		store: store[T]{trim: trim, check: from.check, changed: func() { changed(false) }}, reader: from, explain: explain,
		stateChanged: func() { changed(true) },
		denials:      make(map[string]denial),
	}
	f.reflector = cache.NewReflectorWithOptions(&cache.ListWatch{
		ListWithContextFunc:  f.list,
		WatchFuncWithContext: f.watch,
	}, example, f, cache.ReflectorOptions{})
	return f
}

func (f *feed[T]) state() feedState {
	s := feedState{loaded: f.loaded()}
	if err := f.rejection(); err != nil {
		s.rejections = []string{err.Error()}
	}
	f.mu.Lock()
	s.unreachable, s.throttled = f.unreachable, f.throttled
	ofList, listDenied := f.denials["list"]
	ofWatch, watchDenied := f.denials["watch"]
	f.mu.Unlock()
	s.settled = s.loaded || s.unreachable != nil && !s.throttled || listDenied
	switch {
	case listDenied:
		limited := limitation{denial: ofList}
		if f.fallback != nil {
			other := f.fallback.state()
			if limited.fallback = f.fallback.listDenial(); limited.fallback != nil {
				other.limitations = nil
			} else {
				limited.instead = f.fallbackText
			}
			s.merge(other)
		}
		s.limitations = append(s.limitations, limited)
	case watchDenied:
		s.limitations = append(s.limitations, limitation{denial: ofWatch, instead: fmt.Sprintf("listing them every %v", relistInterval)})
	}
	for _, d := range f.reader.missing() {
		s.limitations = append(s.limitations, limitation{denial: d})
	}
	return s
}

// listDenial returns the denial of listing; nil if listing isn't denied.
func (f *feed[T]) listDenial() *denial {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d, denied := f.denials["list"]; denied {
		return &d
	}
	return nil
}

// stale reports whether the store isn't kept up to date because listing is denied.
func (f *feed[T]) stale() bool { return f.listDenial() != nil }

// run keeps the store up to date until ctx ends.
func (f *feed[T]) run(ctx context.Context) {
	var fallback sync.WaitGroup
	defer fallback.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	delay := backoff.Backoff{Min: minReadDelay, Max: maxReadDelay}
	for ctx.Err() == nil {
		began := time.Now()
		err := f.reflector.ListAndWatchWithContext(ctx)
		if time.Since(began) > stableWindow {
			delay.Reset()
		}
		if !f.denied(err) {
			sleepJittered(ctx, &delay)
			continue
		}
		if f.fallback != nil && f.stopFallback == nil {
			var inner context.Context
			inner, f.stopFallback = context.WithCancel(ctx) //nolint:gosec // Replace calls it; or ctx ends
			f.fallback.forget()                             // the objects of its previous run
			fallback.Go(func() { f.fallback.run(inner) })
		}
		_ = backoff.Sleep(ctx, deniedInterval) // the loop checks ctx
	}
}

// Replace stores the result of a list, and stops the fallback.
func (f *feed[T]) Replace(objects []any, version string) error {
	err := f.store.Replace(objects, version)
	if err == nil && f.stopFallback != nil {
		f.stopFallback()
		f.stopFallback = nil
	}
	return err
}

func (f *feed[T]) list(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	objects, err := f.reader.list(ctx, options)
	f.record(ctx, "list", err)
	return objects, err
}

// watch starts a watch. While the API server is unreachable it retries: the
// reflector would too, but with longer delays, and without reporting the reason.
// Where watching is denied it returns a watch that expires when it is time to
// list again.
func (f *feed[T]) watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	options.Watch = true
	delay := backoff.Backoff{Min: minReadDelay, Max: maxReadDelay}
	for {
		w, err := f.reader.watch(ctx, options)
		streams := options.SendInitialEvents != nil // unknown to older servers: the reflector then lists
		switch {
		case err == nil && streams:
			f.record(ctx, "list", nil)
			f.record(ctx, "watch", nil)
			return w, nil
		case err == nil:
			f.record(ctx, "watch", nil)
			return w, nil
		case streams && (f.denied(err) || errors.Is(err, errNoWatch)):
			return nil, err
		case f.denied(err):
			f.record(ctx, "watch", err)
			return newExpiringWatch(relistInterval), nil
		case errors.Is(err, errNoWatch):
			return newExpiringWatch(relistInterval), nil
		case ctx.Err() != nil, !isTransient(err):
			return nil, err
		}
		f.record(ctx, "watch", err)
		sleepJittered(ctx, &delay)
	}
}

// record records the result of a request.
func (f *feed[T]) record(ctx context.Context, verb string, err error) {
	if ctx.Err() != nil || isExpired(err) {
		return
	}
	f.mu.Lock()
	deniedBefore, reachableBefore := f.denials[verb], f.unreachable == nil
	f.unreachable, f.throttled = nil, false
	delete(f.denials, verb)
	switch {
	case f.denied(err):
		d := f.reader.denial(verb)
		d.unserved = apierrors.IsNotFound(err)
		f.denials[verb] = d
	case err != nil:
		f.unreachable, f.throttled = f.explain(err), apierrors.IsTooManyRequests(err)
	}
	changed := f.denials[verb] != deniedBefore || (f.unreachable == nil) != reachableBefore
	f.mu.Unlock()
	if changed {
		f.stateChanged()
	}
}

// denied reports whether the user may not read the objects, or the API server doesn't
// serve them. Every API server serves Services and Pods: without them, the kubeconfig's
// server is something else, or has a wrong path.
func (f *feed[T]) denied(err error) bool {
	resource, _, _ := strings.Cut(f.reader.denial("list").resource, "/")
	core := resource == "services" || resource == "pods"
	return isDenied(err) && (!core || !apierrors.IsNotFound(err))
}

// isDenied reports whether the user lacks the permission, or the API server
// doesn't serve the resource or the verb.
func isDenied(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsMethodNotSupported(err) || apierrors.IsNotFound(err)
}

// isTransient reports whether a retry of the same request may succeed.
func isTransient(err error) bool {
	if apierrors.ReasonForError(err) == metav1.StatusReasonUnknown && !errors.As(err, new(apierrors.APIStatus)) {
		return !errors.Is(err, context.Canceled) // there was no response
	}
	return apierrors.IsUnauthorized(err) || apierrors.IsTooManyRequests(err) || apierrors.IsInternalError(err) ||
		apierrors.IsServiceUnavailable(err) || apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) && !isExpired(err)
}

// isExpired reports whether the API server no longer has the requested resource
// version, or doesn't have it yet. A reflector then lists again.
func isExpired(err error) bool {
	return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge)
}

// sleepJittered waits for the next delay with full jitter, but for at least half
// of minReadDelay, or until ctx ends.
func sleepJittered(ctx context.Context, delay *backoff.Backoff) {
	_ = backoff.Sleep(ctx, minReadDelay/2+backoff.Jitter(delay.Next())) // callers check ctx
}

// expiringWatch is a watch without events. It ends after a given time with an
// error that makes a reflector list again.
type expiringWatch struct {
	events chan watch.Event
	timer  *time.Timer
}

func newExpiringWatch(d time.Duration) *expiringWatch {
	w := &expiringWatch{events: make(chan watch.Event, 1)}
	w.timer = time.AfterFunc(d, func() {
		status := apierrors.NewResourceExpired("time to list again").Status()
		w.events <- watch.Event{Type: watch.Error, Object: &status}
	})
	return w
}

func (w *expiringWatch) Stop() { w.timer.Stop() }

func (w *expiringWatch) ResultChan() <-chan watch.Event { return w.events }
