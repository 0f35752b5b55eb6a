package kube

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/kubeshore/kubeshore/pkg/credential"
)

// An API server can't lead a request, with its credentials, to another cluster behind the
// same server, or to another host.
func TestRedirectsAreRefused(t *testing.T) {
	var followed atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	defer elsewhere.Close()
	for _, target := range []string{"/k8s/clusters/c-2/api/v1/namespaces", elsewhere.URL + "/api/v1/namespaces"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if strings.HasPrefix(req.URL.Path, "/k8s/clusters/c-2/") {
				followed.Add(1)
			}
			http.Redirect(w, req, target, http.StatusTemporaryRedirect)
		}))
		config := &rest.Config{Host: server.URL + "/k8s/clusters/c-1"}
		gate, err := credential.NewGate("ctx", config, credential.NewPlugins(nil, nil))
		if err != nil {
			t.Fatal(err)
		}
		_, err = (&Cluster{Context: "ctx", Config: config, Gate: gate}).NamespaceNames(t.Context())
		if err == nil || !strings.Contains(err.Error(), "redirects to ") {
			t.Errorf("%s: got %v, want an error about the redirect", target, err)
		}
		server.Close()
	}
	if n := followed.Load(); n > 0 {
		t.Errorf("followed %d redirects, want none", n)
	}
}

// A hostile API server's endless response ends with an error that names the limit.
func TestEndlessResponsesEnd(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/denied" {
			w.WriteHeader(http.StatusForbidden)
		}
		chunk := make([]byte, 1<<20)
		for {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	const maxSize = 4 << 20
	client := &http.Client{Transport: bounded{server.Client().Transport, maxSize}}
	for _, c := range []struct {
		path, wantErr string
		wantSize      int64
	}{
		{"/list", "response of the API server exceeds 4 MiB", maxSize},
		{"/denied", "response of the API server exceeds 1 MiB", maxErrorResponseSize},
		{"/list?watch=true", "", 2 * maxSize},
	} {
		t.Run(c.path, func(t *testing.T) {
			resp, err := client.Get(server.URL + c.path)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			n, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 2*maxSize))
			if n != c.wantSize || (err == nil) != (c.wantErr == "") || err != nil && !strings.Contains(err.Error(), c.wantErr) {
				t.Errorf("got %d bytes and error %v, want %d and %q", n, err, c.wantSize, c.wantErr)
			}
		})
	}
}
