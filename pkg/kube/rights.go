package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/client-go/rest"

	"github.com/kubeshore/kubeshore/internal/printable"
	"github.com/kubeshore/kubeshore/internal/wake"
)

const (
	// reviewTimeout limits one review.
	reviewTimeout = 5 * time.Second
	// maxReviewed limits the namespaces that are reviewed one by one.
	maxReviewed = 64
	// maxUserName limits the quoted name of the user, in runes.
	maxUserName = 100
)

// rights finds out in which namespaces of a scope the user may not forward ports, by
// asking the API server (SelfSubjectAccessReview). Namespaces for which it gives no
// answer count as permitted, and connections find out.
type rights struct {
	client     rest.Interface
	context    string
	namespace  string          // empty: all
	namespaces func() []string // with Services; needed if namespace is empty
	changed    func()
	again      wake.Trigger // fires when namespaces may have changed

	mu      sync.Mutex
	settled bool
	denied  map[string]string // by namespace: why, a line each
}

// run keeps the result up to date until ctx ends. A permission that is revoked later is
// found by the next connection.
func (r *rights) run(ctx context.Context) {
	for {
		result := r.review(ctx)
		if ctx.Err() != nil {
			return
		}
		r.mu.Lock()
		changed := !r.settled || !maps.Equal(result.denied, r.denied)
		r.settled, r.denied = true, result.denied
		r.mu.Unlock()
		if changed {
			r.changed()
		}
		if result.everywhere || !r.awaitReason(ctx, result) {
			return
		}
	}
}

// awaitReason waits for a reason to review again: new namespaces, or that time has passed
// since a denial or a failure. It returns false if ctx ended.
func (r *rights) awaitReason(ctx context.Context, last reviewed) bool {
	var retry <-chan time.Time
	if len(last.denied) > 0 || !last.complete {
		retry = time.After(deniedInterval)
	}
	for {
		select {
		case <-ctx.Done():
			return false
		case <-retry:
			return true
		case <-r.again.C():
			if !slices.Equal(r.scopeNamespaces(), last.namespaces) {
				return true
			}
		}
	}
}

// scopeNamespaces returns the namespaces to review one by one.
func (r *rights) scopeNamespaces() []string {
	if r.namespace != "" {
		return []string{r.namespace}
	}
	all := r.namespaces()
	return all[:min(len(all), maxReviewed)]
}

// state reports whether the rights are known, and returns why forwarding is denied, by
// namespace.
func (r *rights) state() (settled bool, denied map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.settled, r.denied
}

// reviewed is the result of a review.
type reviewed struct {
	everywhere bool              // the user may forward in the complete scope
	complete   bool              // the API server has answered all questions
	namespaces []string          // those that were reviewed one by one
	denied     map[string]string // as rights.denied
}

func (r *rights) review(ctx context.Context) reviewed {
	allowed, known := r.mayForward(ctx, r.namespace)
	result := reviewed{everywhere: allowed, complete: known}
	if allowed || !known {
		return result
	}
	result.namespaces, result.denied = r.scopeNamespaces(), make(map[string]string)
	who := ""
	for _, namespace := range result.namespaces {
		if r.namespace == "" {
			allowed, known = r.mayForward(ctx, namespace)
			result.complete = result.complete && known
			if allowed || !known {
				continue
			}
		}
		if who == "" {
			who = r.userName(ctx)
		}
		result.denied[namespace] = fmt.Sprintf("%s may not create pods/portforward in namespace %s (context %s); a Role there with the verbs create and get on pods/portforward would allow it",
			who, namespace, r.context)
	}
	return result
}

// mayForward reports whether the user may forward ports in a namespace, or in all if it
// is empty: SPDY needs create, and WebSocket get, on servers before 1.35. known is false
// if the API server didn't answer.
func (r *rights) mayForward(ctx context.Context, namespace string) (allowed, known bool) {
	for _, verb := range []string{"create", "get"} {
		review := authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: namespace, Verb: verb, Version: "v1", Resource: "pods", Subresource: "portforward"},
		}}
		review.APIVersion, review.Kind = "authorization.k8s.io/v1", "SelfSubjectAccessReview"
		var answer authorizationv1.SelfSubjectAccessReview
		if !r.post(ctx, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, &answer) || answer.Kind != review.Kind {
			return false, false
		}
		if answer.Status.Allowed {
			return true, true
		}
	}
	return false, true
}

// userName returns how the API server calls the user.
func (r *rights) userName(ctx context.Context) string {
	review := authenticationv1.SelfSubjectReview{}
	review.APIVersion, review.Kind = "authentication.k8s.io/v1", "SelfSubjectReview"
	var answer authenticationv1.SelfSubjectReview
	if !r.post(ctx, "/apis/authentication.k8s.io/v1/selfsubjectreviews", review, &answer) || answer.Status.UserInfo.Username == "" {
		return "you"
	}
	return "user " + printable.Line(answer.Status.UserInfo.Username, maxUserName)
}

// post sends a review and decodes the response. It reports whether that succeeded.
func (r *rights) post(ctx context.Context, path string, review, into any) bool {
	body, err := json.Marshal(review)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	response, err := r.client.Post().AbsPath(path).SetHeader("Content-Type", "application/json").SetHeader("Accept", "application/json").
		Body(body).MaxRetries(0).Do(ctx).Raw()
	return err == nil && json.Unmarshal(response, into) == nil
}

// namespacesOf returns the namespaces of objects, sorted.
func (w *scopeWatcher) namespacesOf() []string {
	seen := make(map[string]bool)
	for _, service := range w.readServices() {
		seen[service.Namespace] = true
	}
	return slices.Sorted(maps.Keys(seen))
}
