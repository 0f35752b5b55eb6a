package tunnel

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// Whatever a pod is called, no request leaves the path of the cluster's API
// server, behind which a proxy serves other clusters.
func TestRequestsStayBelowServersPath(t *testing.T) {
	for _, prefix := range []string{"", "/k8s/clusters/c-1", "/k8s/clusters/c-1/", "/k8s/a%2Fb"} {
		for _, pod := range []plan.PodRef{
			{Namespace: "ns", Name: "pod"},
			{Namespace: "ns", Name: "pod.with.dots-0"},
			{Namespace: "ns", Name: "../../c-2/api/v1/namespaces/x/pods/y"},
			{Namespace: "ns", Name: "../../../../../../c-2/api/v1/namespaces/x/pods/y"},
			{Namespace: "../../../../c-2/api/v1/namespaces/x", Name: "pod"},
			{Namespace: "ns", Name: "%zz"},
			{Namespace: "%zz", Name: "pod"},
			{Namespace: "ns", Name: "a/b"},
			{Namespace: "ns", Name: "%2e%2e%2fb"},
			{Namespace: "ns", Name: ".."},
			{Namespace: "..", Name: "."},
			{Namespace: "ns", Name: ""},
			{Namespace: "", Name: "pod"},
			{Namespace: "ns", Name: "pod?x=y"},
			{Namespace: "ns", Name: "pod#x"},
			{Namespace: "ns", Name: "pod x\r\nHost: other"},
		} {
			for _, with := range []Transport{SPDY, WebSocket} {
				valid := pod.Namespace == "ns" && (pod.Name == "pod" || pod.Name == "pod.with.dots-0")
				got := requestedPaths(t, prefix, pod, with)
				if !valid && len(got) > 0 {
					t.Errorf("prefix %q, pod %q/%q: got requests for %q, want none", prefix, pod.Namespace, pod.Name, got)
				}
				want := map[string]string{"/k8s/clusters/c-1/": "/k8s/clusters/c-1"}[prefix]
				if want == "" {
					want = prefix
				}
				want += "/api/v1/namespaces/ns/pods/" + pod.Name + "/portforward"
				if valid && (len(got) != 1 || got[0] != want) {
					t.Errorf("prefix %q, pod %v: got requests for %q, want %q", prefix, pod, got, want)
				}
			}
		}
	}
}

// requestedPaths dials a pod and returns the paths that were requested.
func requestedPaths(t *testing.T, prefix string, pod plan.PodRef, with Transport) (paths []string) {
	t.Helper()
	var path atomic.Pointer[string]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requested := r.URL.EscapedPath()
		path.Store(&requested)
		http.NotFound(w, r)
	}))
	defer server.Close()
	_, err := newTestCluster(t, &rest.Config{Host: server.URL + prefix}, with).dial(t.Context(), pod)
	var unreached *fwd.UnreachedError
	if !errors.As(err, &unreached) {
		t.Errorf("prefix %q, pod %v: got error %v, want an UnreachedError", prefix, pod, err)
	}
	if requested := path.Load(); requested != nil {
		paths = append(paths, *requested)
		return paths
	}
	if unreached != nil && unreached.Reason != fwd.PodGone {
		t.Errorf("prefix %q, pod %v: got reason %v, want that the pod is gone", prefix, pod, unreached.Reason)
	}
	return nil
}
