package kube

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

func kubeconfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const twoContexts = `
apiVersion: v1
kind: Config
clusters: [{name: k, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts:
- {name: dev, context: {cluster: k, user: u, namespace: shop}}
- {name: prod, context: {cluster: k, user: u}}
current-context: dev
`

func TestLoad(t *testing.T) {
	path := kubeconfig(t, twoContexts)
	for context, want := range map[string]Cluster{
		"":     {Context: "dev", Namespace: "shop"},
		"prod": {Context: "prod", Namespace: "default"},
	} {
		got, err := Load(path, context, "agent")
		if err != nil {
			t.Fatal(err)
		}
		if got.Context != want.Context || got.Namespace != want.Namespace || got.Config.Host != "https://127.0.0.1:1" {
			t.Errorf("context %q: got %+v", context, got)
		}
	}
}

func TestLoadFaults(t *testing.T) {
	for name, c := range map[string]struct{ path, context, want string }{
		"missing":         {filepath.Join(t.TempDir(), "none"), "", "none"},
		"empty":           {kubeconfig(t, ""), "", "no kubeconfig"},
		"no YAML":         {kubeconfig(t, "{"), "", "yaml"},
		"unknown context": {kubeconfig(t, twoContexts), "stage", "dev, prod"},
		"no current":      {kubeconfig(t, strings.Replace(twoContexts, "current-context: dev", "", 1)), "", "dev, prod"},
		"no cluster":      {kubeconfig(t, strings.ReplaceAll(twoContexts, "cluster: k,", "cluster: x,")), "", "dev"},
	} {
		_, err := Load(c.path, c.context, "agent")
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want a line with %q", name, err, c.want)
		}
	}
}

// apiServer answers every request as answer says: with a status code for the
// namespace and resource asked for.
func apiServer(t *testing.T, answer func(namespace, resource string) int) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(r.URL.Path, "/")
		namespace, resource := parts[len(parts)-2], parts[len(parts)-1]
		code := answer(namespace, resource)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		if code == http.StatusOK {
			fmt.Fprintf(w, `{"kind":"List","apiVersion":"v1","items":[]}`)
			return
		}
		_ = json.NewEncoder(w).Encode(metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
			Status:   metav1.StatusFailure, Message: http.StatusText(code) + "\x1b]0;a title\a",
			Reason: map[int]metav1.StatusReason{401: metav1.StatusReasonUnauthorized, 403: metav1.StatusReasonForbidden, 429: metav1.StatusReasonTooManyRequests}[code],
			Code:   int32(code),
		})
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that are meant to fail
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func TestReadyFaults(t *testing.T) {
	refused := httptest.NewServer(nil)
	refused.Close()
	anyone := func(code int) func(string, string) int { return func(string, string) int { return code } }
	for name, c := range map[string]struct {
		host     string
		insecure bool
		want     string
	}{
		"unreachable":       {refused.URL, true, "can't be reached"},
		"wrong certificate": {apiServer(t, anyone(200)).URL, false, "certificate-authority"},
		"no credentials":    {apiServer(t, anyone(401)).URL, true, "does not accept the credentials"},
		"broken":            {apiServer(t, anyone(500)).URL, true, "Internal Server Error"},
		"no right to list services": {
			apiServer(t, anyone(403)).URL, true,
			"not allowed to list endpointslices or pods in namespace a (context ctx); not allowed to list services in namespace a (context ctx)",
		},
	} {
		cluster := &Cluster{Context: "ctx", Config: &rest.Config{Host: c.host, TLSClientConfig: rest.TLSClientConfig{Insecure: c.insecure}}}
		_, err := follow(t, func(string) (*Cluster, error) { return cluster, nil }, Follow{Context: "ctx", Namespaces: []string{"a"}})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.ContainsAny(err.Error(), "\n\x1b\a") {
			t.Errorf("%s: got %q, want a line that can be shown, with %q", name, err, c.want)
		}
	}
}

// follow runs a source, as long as the test, and returns what Ready says of it.
func follow(t *testing.T, load func(string) (*Cluster, error), want ...Follow) (*Source, error) {
	t.Helper()
	source := NewSource(load)
	source.Set(want)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- source.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return source, source.Ready(t.Context())
}

// What can't be read of one namespace, or of one cluster, doesn't keep the
// others from being served.
func TestReadyWithWhatCanBeServed(t *testing.T) {
	server := apiServer(t, func(namespace, _ string) int {
		return map[string]int{"may": 200, "maynot": 403}[namespace]
	})
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	load := func(name string) (*Cluster, error) {
		switch name {
		case "ctx":
			return &Cluster{Context: name, Config: &rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{CAData: ca}}}, nil
		case "away":
			return &Cluster{Context: name, Config: &rest.Config{Host: "https://127.0.0.1:1"}}, nil
		}
		return nil, fmt.Errorf("no context %s", name)
	}
	source, err := follow(t, load, Follow{Context: "away"}, Follow{Context: "gone"}, Follow{Context: "ctx", Namespaces: []string{"maynot", "may"}})
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, c := range source.Snapshot().Clusters {
		said = append(said, c.Problems...)
	}
	want := []string{
		"context away: the API server https://127.0.0.1:1 can't be reached",
		"no context gone",
		"no services in namespace may of context ctx",
		"not allowed to list endpointslices or pods in namespace maynot (context ctx)",
		"not allowed to list services in namespace maynot (context ctx)",
	}
	if len(said) != len(want) {
		t.Errorf("it says %d things, want %d: %q", len(said), len(want), said)
	}
	for i := range min(len(said), len(want)) {
		if !strings.HasPrefix(said[i], want[i]) {
			t.Errorf("it says %q, want %q", said[i], want[i])
		}
	}
}

// A credential plugin that fails is run once, however many ask for credentials.
func TestReadyRunsAFailingPluginOnce(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip(err)
	}
	runs := filepath.Join(t.TempDir(), "runs")
	cluster, err := Load(kubeconfig(t, fmt.Sprintf(`
apiVersion: v1
kind: Config
clusters: [{name: k, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: sh, args: ["-c", "echo >> %s; false"]}}}]
contexts: [{name: ctx, context: {cluster: k, user: u}}]
current-context: ctx
`, runs)), "", "agent")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_, err := follow(t, func(string) (*Cluster, error) { return cluster, nil }, Follow{Context: "ctx", Namespaces: []string{"a", "b", "c"}})
		if err == nil || !strings.Contains(err.Error(), "context ctx: credential plugin failed: exec: executable sh failed with exit code 1; next attempt after ") {
			t.Errorf("got %v", err)
		}
	}
	if lines, err := os.ReadFile(runs); string(lines) != "\n" || err != nil {
		t.Errorf("the plugin ran %d times, %v", len(lines), err)
	}
}

// An API server that has too much to do is asked again, and it isn't fatal if it
// still has when the first snapshot is taken.
func TestReadyWithABusyServer(t *testing.T) {
	t.Parallel()
	for want, busyFor := range map[string]int32{
		"no services in namespace a of context ctx": 6,
		"context ctx: Too Many Requests":            math.MaxInt32,
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			server := apiServer(t, func(string, string) int {
				if requests.Add(1) <= busyFor {
					return http.StatusTooManyRequests
				}
				return http.StatusOK
			})
			cluster := &Cluster{Context: "ctx", Config: &rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}}
			source, err := follow(t, func(string) (*Cluster, error) { return cluster, nil }, Follow{Context: "ctx", Namespaces: []string{"a"}})
			if err != nil {
				t.Fatal(err)
			}
			if said := source.Snapshot().Clusters[0].Problems; len(said) != 1 || !strings.HasPrefix(said[0], want) {
				t.Errorf("it says %q", said)
			}
		})
	}
}

// Where all namespaces may be read, a Service that is named isn't read by itself
// as well; where they may not, it is.
func TestNamedServiceAmongAllNamespaces(t *testing.T) {
	for name, c := range map[string]struct {
		denied string // of all namespaces
		alone  bool   // the Service is read by itself
	}{
		"all may be read":   {"", false},
		"services may not":  {"services", true},
		"endpoints may not": {"endpointslices pods", true},
		"slices may not":    {"endpointslices", false},
	} {
		t.Run(name, func(t *testing.T) {
			var alone atomic.Bool
			server := apiServer(t, func(namespace, resource string) int {
				switch {
				case namespace == "shop":
					alone.Store(true)
				case strings.Contains(c.denied, resource):
					return http.StatusForbidden
				}
				return http.StatusOK
			})
			cluster := &Cluster{Context: "ctx", Config: &rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}}
			_, err := follow(t, func(string) (*Cluster, error) { return cluster, nil }, Follow{Context: "ctx", Services: []types.NamespacedName{{Namespace: "shop", Name: "web"}}})
			if err != nil {
				t.Fatal(err)
			}
			if alone.Load() != c.alone {
				t.Errorf("that the service is read by itself is %v", alone.Load())
			}
		})
	}
}
