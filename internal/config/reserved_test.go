package config

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus/hooks/test"

	"github.com/kubeshore/kubeshore/pkg/credential"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// namingCluster is an API server with the Services web, rancher and nginx of
// namespace shop, and an Ingress for gate.example.com, whose controller is nginx.
type namingCluster struct{}

func (namingCluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch query := r.URL.Query(); {
	case query.Has("sendInitialEvents"):
		w.WriteHeader(http.StatusUnprocessableEntity)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
	case query.Has("watch"):
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	default:
		fmt.Fprint(w, map[string]string{
			"services": `{"kind":"ServiceList","apiVersion":"v1","metadata":{"resourceVersion":"5"},"items":[
				{"metadata":{"name":"web","namespace":"shop"},"spec":{"selector":{"app":"web"},"ports":[{"port":80}]}},
				{"metadata":{"name":"rancher","namespace":"shop"},"spec":{"selector":{"app":"rancher"},"ports":[{"port":16443}]}},
				{"metadata":{"name":"nginx","namespace":"shop"},"spec":{"type":"LoadBalancer","selector":{"app":"nginx"},"ports":[{"port":443}]},"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}]}`,
			"endpointslices": `{"kind":"EndpointSliceList","apiVersion":"discovery.k8s.io/v1","metadata":{"resourceVersion":"5"},"items":[]}`,
			"ingresses": `{"kind":"IngressList","apiVersion":"networking.k8s.io/v1","metadata":{"resourceVersion":"5"},"items":[
				{"metadata":{"name":"gate","namespace":"shop"},"spec":{"rules":[{"host":"gate.example.com"}]},"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}]}`,
		}[r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]])
	}
}

// hostsOfCluster is a kubeconfig whose context dev leads to a test's API server. A
// test replaces one line at a time.
const hostsOfCluster = `
apiVersion: v1
kind: Config
clusters:
- {name: k, cluster: {server: "SERVER"}}
- {name: other, cluster: {server: "https://127.0.0.1:1"}}
users: [{name: u, user: {token: t}}]
contexts: [{name: dev, context: {cluster: k, user: u, namespace: shop}}, {name: two, context: {cluster: other, user: u}}]
current-context: dev
`

// namedIn returns whether a plan has a name, and everything it says about reasons.
func namedIn(desired plan.Desired, name string) (named bool, reasons string) {
	var lines []string
	for _, h := range desired.Hosts {
		named = named || slices.Contains(h.Names, name)
		lines = slices.Concat(lines, h.Limits, h.Problems)
	}
	for _, c := range desired.Clusters {
		lines = append(lines, c.Problems...)
	}
	return named, strings.Join(lines, "\n")
}

// A name that a Service already has is withdrawn, with the reason, when the
// kubeconfig begins to need it as a host, wherever it is named there and even if the
// context can no longer be used. It returns when it isn't needed any more.
func TestNamesFollowKubeconfig(t *testing.T) {
	server := httptest.NewServer(namingCluster{})
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	before := strings.ReplaceAll(hostsOfCluster, "SERVER", server.URL)
	changes := map[string]struct{ old, changed, use string }{
		"server":             {server.URL, "https://HOST:16443", "the API server of cluster k"},
		"proxy":              {server.URL + `"`, server.URL + `", proxy-url: "http://HOST:3128"`, "the proxy of cluster k"},
		"server of another":  {"https://127.0.0.1:1", "https://HOST:16443", "the API server of cluster other"},
		"identity provider":  {"token: t", `auth-provider: {name: oidc, config: {idp-issuer-url: "https://HOST/realm", client-id: c, id-token: t}}`, "used by the credentials of user u"},
		"context is missing": {"- {name: k, cluster: {server: ", `- {name: unused, cluster: {server: "HOST:16443"}}` + "\n- {name: renamed, cluster: {server: ", "the API server of cluster unused"},
	}
	for what, change := range changes {
		for of, host := range map[string]string{"Service": "rancher", "names": "vpn.example.com", "Ingress": "gate.example.com"} {
			t.Run(what+"/"+of, func(t *testing.T) {
				t.Parallel()
				after := strings.ReplaceAll(strings.Replace(before, change.old, change.changed, 1), "HOST", host)
				await := followNames(t, before)
				await(before, func(d plan.Desired) bool { named, _ := namedIn(d, host); return named })
				await(after, func(d plan.Desired) bool {
					named, reasons := namedIn(d, host)
					web, _ := namedIn(d, "web")
					return !named && web && strings.Contains(reasons, host+": ") && strings.Contains(reasons, "it is "+change.use)
				})
				await(before, func(d plan.Desired) bool { named, _ := namedIn(d, host); return named })
			})
		}
	}
}

// No name hides the proxy of the environment.
func TestNamesOfProxies(t *testing.T) {
	server := httptest.NewServer(namingCluster{})
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	kubeconfig := strings.ReplaceAll(hostsOfCluster, "SERVER", server.URL)
	for _, host := range []string{"rancher", "vpn.example.com", "gate.example.com"} {
		t.Run(host, func(t *testing.T) {
			t.Setenv("HTTPS_PROXY", "http://"+host+":3128")
			followNames(t, kubeconfig)(kubeconfig, func(d plan.Desired) bool {
				named, reasons := namedIn(d, host)
				web, _ := namedIn(d, "web")
				return !named && web && strings.Contains(reasons, "it is the proxy of HTTPS_PROXY")
			})
		})
	}
}

// followNames starts a watcher, with a name of the user's and all hosts of Ingresses.
// The returned function writes a kubeconfig and waits until the plan is as expected;
// it plans only when the watcher's Source asks for it.
func followNames(t *testing.T, kubeconfig string) (await func(kubeconfig string, is func(plan.Desired) bool)) {
	t.Helper()
	path, file := filepath.Join(t.TempDir(), "config"), filepath.Join(t.TempDir(), "kubeshore.yaml")
	writeFile(t, path, kubeconfig)
	writeFile(t, file, "services: {web.shop: {names: [vpn.example.com]}}")
	log, _ := test.NewNullLogger()
	w := NewWatcher(Options{Kubeconfig: path, ProjectFile: file, Spec: Spec{Ingress: []string{"*"}}}, credential.NewPlugins(nil, nil), log)
	if err := w.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran, watched := make(chan error, 1), make(chan struct{})
	go func() { ran <- w.Source.Run(ctx) }()
	go func() {
		defer close(watched)
		w.Watch(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		<-watched
	})
	return func(kubeconfig string, is func(plan.Desired) bool) {
		t.Helper()
		writeFile(t, path, kubeconfig)
		var desired plan.Desired
		for deadline := time.After(20 * time.Second); ; {
			select {
			case <-w.Source.Changed():
				if desired = plan.Plan(w.Source.Snapshot(), w.PlanOptions()); is(desired) {
					return
				}
			case <-time.After(10 * writeQuietWindow):
				writeFile(t, path, kubeconfig) // the watcher may not have started
			case <-deadline:
				t.Fatalf("the plan is %+v", desired)
			}
		}
	}
}
