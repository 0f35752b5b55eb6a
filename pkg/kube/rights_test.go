package kube

import (
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
	someServices = `{"kind":"ServiceList","apiVersion":"v1","metadata":{"resourceVersion":"5"},"items":[{"metadata":{"name":"web","namespace":"shop"},` +
		`"spec":{"clusterIP":"10.0.0.1","selector":{"app":"web"},"ports":[{"port":80,"protocol":"TCP","targetPort":8080}]}}]}`
	webService = `{"kind":"Service","apiVersion":"v1","metadata":{"name":"web","namespace":"shop"},"spec":{"clusterIP":"10.0.0.1","ports":[{"port":81,"protocol":"TCP"}]}}`
	somePods   = `{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"5"},"items":[{"metadata":{"name":"new","namespace":"shop","uid":"new","labels":{"app":"web"}},` +
		`"status":{"phase":"Running","podIP":"10.1.1.2","conditions":[{"type":"Ready","status":"True"}]}}]}`
	someSlices = `{"kind":"EndpointSliceList","apiVersion":"discovery.k8s.io/v1","metadata":{"resourceVersion":"5"},"items":[{"metadata":{"name":"web-1","namespace":"shop",` +
		`"labels":{"kubernetes.io/service-name":"web"}},"ports":[{"name":"","port":8080}],"endpoints":[{"addresses":["10.1.1.1"],"targetRef":{"kind":"Pod","name":"old","uid":"old"}}]}]}`
)

// changing is an API server with one Service, which denies what it is told to,
// and holds the EndpointSlices back as long as hold is open.
type changing struct {
	denied atomic.Pointer[string] // the resource that may not be read
	hold   atomic.Pointer[chan struct{}]
	byHand atomic.Bool            // the EndpointSlices don't say whose addresses they have
	token  atomic.Pointer[string] // the kubeconfig's; "broken" is a broken kubeconfig
	url    string
	ca     []byte
}

func newChanging(t *testing.T) *changing {
	t.Helper()
	c := new(changing)
	close(c.holdBack())
	c.deny("")
	c.setToken("a")
	server := httptest.NewTLSServer(c)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	c.url, c.ca = server.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return c
}

func (c *changing) deny(resource string)  { c.denied.Store(&resource) }
func (c *changing) setToken(token string) { c.token.Store(&token) }

// holdBack holds the EndpointSlices back until what it returns is closed.
func (c *changing) holdBack() chan struct{} {
	hold := make(chan struct{})
	c.hold.Store(&hold)
	return hold
}

func (c *changing) load(context string) (*Cluster, error) {
	token := *c.token.Load()
	if token == "broken" {
		return nil, errors.New("the kubeconfig is broken")
	}
	return &Cluster{Context: context, Config: &rest.Config{Host: c.url, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAData: c.ca}}}, nil
}

func (c *changing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
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
		text := someSlices
		if c.byHand.Load() {
			text = strings.ReplaceAll(text, `["10.1.1.1"],"targetRef":{"kind":"Pod","name":"old","uid":"old"}`, `["10.1.1.2"]`)
		}
		fmt.Fprint(w, text)
	default:
		fmt.Fprint(w, map[string]string{"services": someServices, "pods": somePods, "web": webService}[resource])
	}
}

// shown is what a source says, in a line.
func shown(s *Source) string {
	var b strings.Builder
	snapshot := s.Snapshot()
	for _, svc := range snapshot.Services {
		fmt.Fprintf(&b, "%s:%d", svc.ID, svc.Ports[0].Number)
		for _, e := range svc.Endpoints {
			fmt.Fprintf(&b, " %s", e.Pod.Name)
		}
	}
	return b.String() + "; " + strings.Join(snapshot.Clusters[0].Problems, "; ")
}

// becomes waits until a source says that.
func becomes(t *testing.T, s *Source, want string) {
	t.Helper()
	for deadline := time.After(20 * time.Second); ; {
		got := shown(s)
		if got == want {
			return
		}
		select {
		case <-s.Changed():
		case <-time.After(50 * time.Millisecond):
		case <-deadline:
			t.Fatalf("it says\n%s, want\n%s", got, want)
		}
	}
}

// What may not be read any more is read in another way, and not as it was.
func TestRightsAreLost(t *testing.T) {
	t.Parallel()
	for denied, want := range map[string]string{
		"endpointslices": "web.shop:80 new; not allowed to list endpointslices in namespace shop (context ctx); reading pods instead",
		"services":       "web.shop:81 old; not allowed to get services/secret in namespace shop (context ctx); not allowed to list services in namespace shop (context ctx); getting 2 by name every 10s",
	} {
		t.Run(denied, func(t *testing.T) {
			t.Parallel()
			c := newChanging(t)
			s, err := follow(t, c.load, Follow{Context: "ctx", Namespaces: []string{"shop"}, Services: []types.NamespacedName{{Namespace: "shop", Name: "web"}, {Namespace: "shop", Name: "secret"}}})
			if err != nil {
				t.Fatal(err)
			}
			becomes(t, s, "web.shop:80 old; ")
			c.deny(denied)
			becomes(t, s, want)
		})
	}
}

// Pods are read once an EndpointSlice has an address without saying whose it is.
func TestSlicesWrittenByHand(t *testing.T) {
	c := newChanging(t)
	c.byHand.Store(true)
	s, err := follow(t, c.load, Follow{Context: "ctx", Namespaces: []string{"shop"}})
	if err != nil {
		t.Fatal(err)
	}
	becomes(t, s, "web.shop:80 new; ")
}

// What was known stands until the same has been read anew: of another
// configuration of the cluster, or of other namespaces.
func TestNothingFlaps(t *testing.T) {
	for name, change := range map[string]func(*changing, *Source){
		"another token": func(c *changing, s *Source) {
			c.setToken("b")
			s.Reload()
		},
		"all namespaces": func(_ *changing, s *Source) { s.Set([]Follow{{Context: "ctx"}}) },
		"a selector": func(_ *changing, s *Source) {
			s.Set([]Follow{{Context: "ctx", Namespaces: []string{"shop"}, Labels: "a=b"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChanging(t)
			s, err := follow(t, c.load, Follow{Context: "ctx", Namespaces: []string{"shop"}})
			if err != nil {
				t.Fatal(err)
			}
			becomes(t, s, "web.shop:80 old; ")
			hold := c.holdBack()
			letGo := sync.OnceFunc(func() { close(hold) })
			defer letGo()
			change(c, s)
			for range 20 {
				select {
				case <-s.Changed():
				case <-time.After(20 * time.Millisecond):
				}
				if got := shown(s); got != "web.shop:80 old; " {
					t.Fatalf("meanwhile it says %s", got)
				}
			}
			letGo()
			becomes(t, s, "web.shop:80 old; ")
		})
	}
}

// A namespace counts as read once what is behind its services was read, too.
func TestReadNamespaces(t *testing.T) {
	c := newChanging(t)
	s, err := follow(t, c.load, Follow{Context: "ctx", Namespaces: []string{"shop"}})
	if err != nil {
		t.Fatal(err)
	}
	read := func() string { return strings.Join(s.Snapshot().Clusters[0].Read, ",") }
	if got := read(); got != "shop" {
		t.Errorf("at first %q are read", got)
	}
	hold := c.holdBack()
	s.Set([]Follow{{Context: "ctx", Namespaces: []string{"shop", "data"}}})
	for services := 0; services < 1; { // data's are read
		<-s.Changed()
		s.mu.Lock()
		for at, e := range s.followers[0].scopes {
			if at.namespace == "data" && e.services.state().read {
				services++
			}
		}
		s.mu.Unlock()
		if got := read(); got != "shop" {
			t.Errorf("then %q are read", got)
		}
	}
	close(hold)
	for deadline := time.After(20 * time.Second); read() != "shop,data"; {
		select {
		case <-s.Changed():
		case <-deadline:
			t.Fatalf("in the end %q are read", read())
		}
	}
}

// A kubeconfig that is broken is said until it isn't, without another change.
func TestBrokenKubeconfigIsReadAgain(t *testing.T) {
	c := newChanging(t)
	s, err := follow(t, c.load, Follow{Context: "ctx", Namespaces: []string{"shop"}})
	if err != nil {
		t.Fatal(err)
	}
	c.setToken("broken")
	s.Reload()
	becomes(t, s, "web.shop:80 old; the kubeconfig is broken; what was known of the cluster is used until it can be read again")
	c.setToken("b")
	becomes(t, s, "web.shop:80 old; ")
	if cluster, _ := s.Cluster("ctx"); cluster.Config.BearerToken != "b" {
		t.Errorf("the token is %s", cluster.Config.BearerToken)
	}
}

// A kubeconfig that is deleted is said to be gone, until it is back; what was
// known of its cluster is used meanwhile.
func TestKubeconfigGoes(t *testing.T) {
	c := newChanging(t)
	path := filepath.Join(t.TempDir(), "config")
	write := func() {
		t.Helper()
		text := strings.NewReplacer("https://127.0.0.1:1\"", c.url+`", certificate-authority-data: `+base64.StdEncoding.EncodeToString(c.ca)).Replace(twoContexts)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	load := func(context string) (*Cluster, error) { return Load(path, context, "agent") }
	s, err := follow(t, load, Follow{Context: "dev", Namespaces: []string{"shop"}})
	if err != nil {
		t.Fatal(err)
	}
	becomes(t, s, "web.shop:80 old; ")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s.Reload()
	becomes(t, s, "web.shop:80 old; context dev: its kubeconfig ("+path+") is gone; what was known of the cluster is used until it can be read again")
	write()
	s.Reload()
	becomes(t, s, "web.shop:80 old; ")
}

// The same cluster by the same proxy is the same.
func TestSameCluster(t *testing.T) {
	load := func(proxy string) *Cluster {
		t.Helper()
		text := strings.ReplaceAll(twoContexts, `server: "https://127.0.0.1:1"`, `server: "https://127.0.0.1:1", proxy-url: "`+proxy+`"`)
		c, err := Load(kubeconfig(t, text), "dev", "agent")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if a := load("http://a"); !a.same(load("http://a")) || a.same(load("http://b")) || a.same(nil) {
		t.Error("it is not told by its proxy")
	}
}
