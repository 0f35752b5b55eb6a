package kube

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/client-go/rest"

	"github.com/kubeshore/kubeshore/internal/wake"
	"github.com/kubeshore/kubeshore/pkg/credential"
)

// reviewServer is an API server that answers reviews.
type reviewServer struct {
	*httptest.Server

	mu      sync.Mutex
	allowed []string // verb and namespace of permitted port-forwards
	reviews int
	broken  string // the response instead of an answer
}

func newReviewServer(t *testing.T, allowed ...string) *reviewServer {
	s := &reviewServer{allowed: allowed}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *reviewServer) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case s.broken != "":
		fmt.Fprint(w, s.broken)
	case req.URL.Path == "/apis/authentication.k8s.io/v1/selfsubjectreviews":
		fmt.Fprint(w, `{"kind":"SelfSubjectReview","apiVersion":"authentication.k8s.io/v1","status":{"userInfo":{"username":"dev\u001b[31m"}}}`)
	default:
		var review authorizationv1.SelfSubjectAccessReview
		_ = json.NewDecoder(req.Body).Decode(&review)
		s.reviews++
		of := review.Spec.ResourceAttributes
		review.Status.Allowed = of.Resource == "pods" && of.Subresource == "portforward" && slices.Contains(s.allowed, of.Verb+" "+of.Namespace)
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(review)
	}
}

// rights returns the rights in a namespace, or in all of those given.
func (s *reviewServer) rights(t *testing.T, namespace string, namespaces ...string) *rights {
	t.Helper()
	config := &rest.Config{Host: s.URL}
	gate, err := credential.NewGate("ctx", config, credential.NewPlugins(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	c, err := newClients(&Cluster{Context: "ctx", Config: config, Gate: gate})
	if err != nil {
		t.Fatal(err)
	}
	return &rights{
		client: c.core, context: "ctx", namespace: namespace, namespaces: func() []string { return namespaces },
		changed: func() {}, again: wake.NewTrigger(),
	}
}

// Forwarding is denied where the user may neither create nor get pods/portforward. What
// can't be found out counts as permitted.
func TestForwardingRights(t *testing.T) {
	for name, c := range map[string]struct {
		allowed    []string
		broken     string
		namespace  string
		namespaces []string
		want       []string // denied namespaces
	}{
		"allowed":                    {allowed: []string{"create shop"}, namespace: "shop"},
		"only WebSocket":             {allowed: []string{"get shop"}, namespace: "shop"},
		"denied":                     {allowed: []string{"create data"}, namespace: "shop", want: []string{"shop"}},
		"everywhere":                 {allowed: []string{"create "}, namespaces: []string{"shop", "data"}},
		"in one of all namespaces":   {allowed: []string{"create data"}, namespaces: []string{"shop", "data"}, want: []string{"shop"}},
		"not an answer to a review":  {broken: `{"kind":"List"}`, namespace: "shop"},
		"an empty object":            {broken: `{}`, namespace: "shop"},
		"not an answer, everywhere":  {broken: `{"kind":"List"}`, namespaces: []string{"shop"}},
		"denied without any Service": {namespaces: nil},
	} {
		s := newReviewServer(t, c.allowed...)
		s.broken = c.broken
		got := s.rights(t, c.namespace, c.namespaces...).review(t.Context())
		if !slices.Equal(slices.Sorted(maps.Keys(got.denied)), c.want) || got.complete != (c.broken == "") {
			t.Errorf("%s: got %+v, want %q to be denied", name, got, c.want)
		}
		for namespace, why := range got.denied {
			want := "user dev [31m may not create pods/portforward in namespace " + namespace + " (context ctx); a Role there with the verbs create and get on pods/portforward would allow it"
			if why != want {
				t.Errorf("%s: got %q, want %q", name, why, want)
			}
		}
	}
}

// Where the user may forward, nothing is asked again, however often Services change.
func TestRightsAreReviewedOnce(t *testing.T) {
	s := newReviewServer(t, "create ")
	r := s.rights(t, "", "shop")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.run(t.Context())
	}()
	r.again.Fire()
	<-ended
	if settled, denied := r.state(); !settled || len(denied) > 0 || s.reviews != 1 {
		t.Errorf("got settled %t, denied %q after %d reviews; want true, none, 1", settled, denied, s.reviews)
	}
}
