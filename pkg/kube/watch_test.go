package kube

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

const (
	serviceList = `{"kind":"ServiceList","apiVersion":"v1","metadata":{"resourceVersion":"5"},"items":[{"metadata":{"name":"web","namespace":"shop"},` +
		`"spec":{"clusterIP":"10.0.0.1","selector":{"app":"web"},"ports":[{"port":80,"protocol":"TCP","targetPort":8080}]}}]}`
	webService = `{"kind":"Service","apiVersion":"v1","metadata":{"name":"web","namespace":"shop"},"spec":{"clusterIP":"10.0.0.1","ports":[{"port":81,"protocol":"TCP"}]}}`
	podList    = `{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"5"},"items":[{"metadata":{"name":"new","namespace":"shop","uid":"new","labels":{"app":"web"}},` +
		`"status":{"phase":"Running","podIP":"10.1.1.2","conditions":[{"type":"Ready","status":"True"}]}}]}`
	endpointSliceList = `{"kind":"EndpointSliceList","apiVersion":"discovery.k8s.io/v1","metadata":{"resourceVersion":"5"},"items":[{"metadata":{"name":"web-1","namespace":"shop",` +
		`"labels":{"kubernetes.io/service-name":"web"}},"ports":[{"name":"","port":8080}],"endpoints":[{"addresses":["10.1.1.1"],"targetRef":{"kind":"Pod","name":"old","uid":"old"}}]}]}`
)

// testCluster is an API server with one Service, and its kubeconfig. Both can be
// changed during a test.
type testCluster struct {
	denied     atomic.Pointer[string]        // the resource that can't be read
	hold       atomic.Pointer[chan struct{}] // lists of EndpointSlices block until it is closed
	untargeted atomic.Bool                   // the endpoints have no targetRef
	token      atomic.Pointer[string]        // in the kubeconfig; "invalid" makes that invalid
	url        string
	ca         []byte
}

func newTestCluster(t *testing.T) *testCluster {
	t.Helper()
	c := new(testCluster)
	close(c.holdBack())
	c.deny("")
	c.setToken("a")
	server := httptest.NewTLSServer(c)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	c.url, c.ca = server.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return c
}

func (c *testCluster) deny(resource string)  { c.denied.Store(&resource) }
func (c *testCluster) setToken(token string) { c.token.Store(&token) }

// holdBack blocks lists of EndpointSlices until the returned channel is closed.
func (c *testCluster) holdBack() chan struct{} {
	hold := make(chan struct{})
	c.hold.Store(&hold)
	return hold
}

func (c *testCluster) load(_ context.Context, name string) (*Cluster, error) {
	token := *c.token.Load()
	if token == "invalid" {
		return nil, errors.New("invalid kubeconfig")
	}
	return &Cluster{Context: name, Config: &rest.Config{Host: c.url, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAData: c.ca}}}, nil
}

func (c *testCluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resource := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	fail := func(code int, reason string) {
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d}`, reason, code)
	}
	w.Header().Set("Content-Type", "application/json")
	switch {
	case resource == *c.denied.Load(), resource == "secret":
		fail(http.StatusForbidden, "Forbidden")
	case r.URL.Query().Has("sendInitialEvents"):
		fail(http.StatusUnprocessableEntity, "Invalid")
	case r.URL.Query().Has("watch"):
		w.(http.Flusher).Flush()
		for *c.denied.Load() != resource {
			select {
			case <-r.Context().Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	case resource == "endpointslices":
		<-*c.hold.Load()
		text := endpointSliceList
		if c.untargeted.Load() {
			text = strings.ReplaceAll(text, `["10.1.1.1"],"targetRef":{"kind":"Pod","name":"old","uid":"old"}`, `["10.1.1.2"]`)
		}
		fmt.Fprint(w, text)
	default:
		fmt.Fprint(w, map[string]string{"services": serviceList, "pods": podList, "web": webService}[resource])
	}
}

// summarize returns a Source's snapshot as a line: Services, pods; problems; notes.
func summarize(s *Source) string {
	var b strings.Builder
	snapshot := s.Snapshot()
	for _, svc := range snapshot.Services {
		fmt.Fprintf(&b, "%s:%d", svc.ID, svc.Ports[0].Number)
		for _, e := range svc.Endpoints {
			fmt.Fprintf(&b, " %s", e.Pod.Name)
		}
	}
	b.WriteString("; " + strings.Join(snapshot.Clusters[0].Problems, "; "))
	for _, note := range snapshot.Clusters[0].Notes {
		b.WriteString("; note: " + note)
	}
	return b.String()
}

// awaitSummary waits until the summary of a Source is want.
func awaitSummary(t *testing.T, s *Source, want string) {
	t.Helper()
	for deadline := time.After(20 * time.Second); ; {
		got := summarize(s)
		if got == want {
			return
		}
		select {
		case <-s.Changed():
		case <-time.After(50 * time.Millisecond):
		case <-deadline:
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	}
}

// Objects that can no longer be listed are read by other means, and those read
// before are no longer used.
func TestRevokedPermissions(t *testing.T) {
	t.Parallel()
	for denied, want := range map[string]string{
		"endpointslices": "web.shop:80 new; ; note: not allowed to list endpointslices in namespace shop (context ctx); reading pods instead",
		"services":       "web.shop:81 old; not allowed to get services/secret in namespace shop (context ctx); note: not allowed to list services in namespace shop (context ctx); getting 2 by name every 10s",
	} {
		t.Run(denied, func(t *testing.T) {
			t.Parallel()
			c := newTestCluster(t)
			s, err := follow(t, c.load, Follow{Context: "ctx", Namespaces: []string{"shop"}, Services: []types.NamespacedName{{Namespace: "shop", Name: "web"}, {Namespace: "shop", Name: "secret"}}})
			if err != nil {
				t.Fatal(err)
			}
			awaitSummary(t, s, "web.shop:80 old; ")
			c.deny(denied)
			awaitSummary(t, s, want)
		})
	}
}

// Pods are read to complete endpoints without a targetRef.
func TestEndpointsWithoutTargetRef(t *testing.T) {
	c := newTestCluster(t)
	c.untargeted.Store(true)
	s, err := follow(t, c.load, Follow{Context: "ctx", Namespaces: []string{"shop"}})
	if err != nil {
		t.Fatal(err)
	}
	awaitSummary(t, s, "web.shop:80 new; ")
}

// After a change of the cluster's configuration or of the selection, the previous
// objects are used until the new watchers are synced.
func TestChangesCauseNoGap(t *testing.T) {
	for name, change := range map[string]func(*testCluster, *Source){
		"new token": func(c *testCluster, s *Source) {
			c.setToken("b")
			s.Reload()
		},
		"all namespaces": func(_ *testCluster, s *Source) { s.Set([]Follow{{Context: "ctx"}}) },
		"new selector": func(_ *testCluster, s *Source) {
			s.Set([]Follow{{Context: "ctx", Namespaces: []string{"shop"}, Labels: "a=b"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestCluster(t)
			s, err := follow(t, c.load, Follow{Context: "ctx", Namespaces: []string{"shop"}})
			if err != nil {
				t.Fatal(err)
			}
			awaitSummary(t, s, "web.shop:80 old; ")
			hold := c.holdBack()
			release := sync.OnceFunc(func() { close(hold) })
			defer release()
			change(c, s)
			for range 20 {
				select {
				case <-s.Changed():
				case <-time.After(20 * time.Millisecond):
				}
				if got := summarize(s); got != "web.shop:80 old; " {
					t.Fatalf("before the sync: got %s, want no change", got)
				}
			}
			release()
			awaitSummary(t, s, "web.shop:80 old; ")
		})
	}
}

// A namespace counts as read once its EndpointSlices were read too.
func TestReadIncludesEndpointSlices(t *testing.T) {
	c := newTestCluster(t)
	s, err := follow(t, c.load, Follow{Context: "ctx", Namespaces: []string{"shop"}})
	if err != nil {
		t.Fatal(err)
	}
	read := func() string { return strings.Join(s.Snapshot().Clusters[0].Read, ",") }
	if got := read(); got != "shop" {
		t.Errorf("initially: got %q, want shop", got)
	}
	hold := c.holdBack()
	s.Set([]Follow{{Context: "ctx", Namespaces: []string{"shop", "data"}}})
	for services := 0; services < 1; { // until data's Services are read
		<-s.Changed()
		s.mu.Lock()
		for at, e := range s.watchers[0].scopes {
			if at.namespace == "data" && e.services.state().loaded {
				services++
			}
		}
		s.mu.Unlock()
		if got := read(); got != "shop" {
			t.Errorf("before the EndpointSlices of data: got %q, want shop", got)
		}
	}
	close(hold)
	for deadline := time.After(20 * time.Second); read() != "shop,data"; {
		select {
		case <-s.Changed():
		case <-deadline:
			t.Fatalf("finally: got %q, want shop,data", read())
		}
	}
}

// An invalid kubeconfig is reported and read again until it is valid, even without
// a notification of a change.
func TestInvalidKubeconfigIsReadAgain(t *testing.T) {
	c := newTestCluster(t)
	s, err := follow(t, c.load, Follow{Context: "ctx", Namespaces: []string{"shop"}})
	if err != nil {
		t.Fatal(err)
	}
	c.setToken("invalid")
	s.Reload()
	awaitSummary(t, s, "web.shop:80 old; invalid kubeconfig; keeping the previous settings")
	c.setToken("b")
	awaitSummary(t, s, "web.shop:80 old; ")
	if cluster, _ := s.Cluster("ctx"); cluster.Config.BearerToken != "b" {
		t.Errorf("token: got %s, want b", cluster.Config.BearerToken)
	}
}

// A deleted kubeconfig is reported until it is back. Its cluster stays watched.
func TestDeletedKubeconfig(t *testing.T) {
	c := newTestCluster(t)
	path := filepath.Join(t.TempDir(), "config")
	write := func() {
		t.Helper()
		text := strings.NewReplacer("https://127.0.0.1:1\"", c.url+`", certificate-authority-data: `+base64.StdEncoding.EncodeToString(c.ca)).Replace(twoContexts)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	load := func(_ context.Context, name string) (*Cluster, error) { return load(t, path, name) }
	s, err := follow(t, load, Follow{Context: "dev", Namespaces: []string{"shop"}})
	if err != nil {
		t.Fatal(err)
	}
	awaitSummary(t, s, "web.shop:80 old; ")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s.Reload()
	awaitSummary(t, s, "web.shop:80 old; context dev: kubeconfig "+path+" not found; keeping the previous settings")
	write()
	s.Reload()
	awaitSummary(t, s, "web.shop:80 old; ")
}
