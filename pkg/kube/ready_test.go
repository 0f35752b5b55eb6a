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

// apiServer starts an API server that responds with the status code that respond
// returns for the requested namespace and resource.
func apiServer(t *testing.T, respond func(namespace, resource string) int) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(r.URL.Path, "/")
		namespace, resource := parts[len(parts)-2], parts[len(parts)-1]
		code := respond(namespace, resource)
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
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // some handshakes are meant to fail
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func TestReadyReportsErrors(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	always := func(code int) func(string, string) int { return func(string, string) int { return code } }
	for name, c := range map[string]struct {
		host     string
		insecure bool
		want     string
	}{
		"unreachable":       {closed.URL, true, "cannot reach API server"},
		"wrong certificate": {apiServer(t, always(200)).URL, false, "certificate-authority"},
		"no credentials":    {apiServer(t, always(401)).URL, true, "rejected the credentials"},
		"wrong path":        {apiServer(t, always(404)).URL + "/x", true, "context ctx: no Kubernetes API at https://"},
		"server error":      {apiServer(t, always(500)).URL, true, "Internal Server Error"},
		"not allowed to list": {
			apiServer(t, always(403)).URL, true,
			"not allowed to list endpointslices or pods in namespace a (context ctx); not allowed to list services in namespace a (context ctx)",
		},
	} {
		cluster := &Cluster{Context: "ctx", Config: &rest.Config{Host: c.host, TLSClientConfig: rest.TLSClientConfig{Insecure: c.insecure}}}
		_, err := follow(t, func(context.Context, string) (*Cluster, error) { return cluster, nil }, Follow{Context: "ctx", Namespaces: []string{"a"}})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.ContainsAny(err.Error(), "\n\x1b\a") {
			t.Errorf("%s: got %q, want a printable line with %q", name, err, c.want)
		}
	}
}

// follow runs a Source until the test ends, and returns it and the result of Ready.
func follow(t *testing.T, load func(context.Context, string) (*Cluster, error), want ...Follow) (*Source, error) {
	t.Helper()
	source := NewSource(load, nil)
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

// A namespace or a cluster that can't be read doesn't affect the others.
func TestReadyWithPartialAccess(t *testing.T) {
	server := apiServer(t, func(namespace, _ string) int {
		return map[string]int{"allowed": 200, "denied": 403}[namespace]
	})
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	load := func(_ context.Context, name string) (*Cluster, error) {
		switch name {
		case "ctx":
			return &Cluster{Context: name, Config: &rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{CAData: ca}}}, nil
		case "unreachable":
			return &Cluster{Context: name, Config: &rest.Config{Host: "https://127.0.0.1:1"}}, nil
		}
		return nil, fmt.Errorf("no context %s", name)
	}
	source, err := follow(t, load, Follow{Context: "unreachable"}, Follow{Context: "missing"}, Follow{Context: "ctx", Namespaces: []string{"denied", "allowed"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range source.Snapshot().Clusters {
		got = append(got, c.Problems...)
	}
	want := []string{
		"context unreachable: cannot reach API server https://127.0.0.1:1: ",
		"no context missing",
		"namespace allowed not found or empty (context ctx); waiting",
		"not allowed to list endpointslices or pods in namespace denied (context ctx)",
		"not allowed to list services in namespace denied (context ctx)",
	}
	if len(got) != len(want) {
		t.Errorf("got %d problems, want %d: %q", len(got), len(want), got)
	}
	for i := range min(len(got), len(want)) {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("problem %d: got %q, want %q", i, got[i], want[i])
		}
	}
}

// A failing credential plugin runs once, however many requests need credentials.
func TestReadyRunsFailingPluginOnce(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip(err)
	}
	runs := filepath.Join(t.TempDir(), "runs")
	cluster, err := load(t, kubeconfig(t, fmt.Sprintf(`
apiVersion: v1
kind: Config
clusters: [{name: k, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: sh, args: ["-c", "echo >> %s; false"]}}}]
contexts: [{name: ctx, context: {cluster: k, user: u}}]
current-context: ctx
`, runs)), "")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_, err := follow(t, func(context.Context, string) (*Cluster, error) { return cluster, nil }, Follow{Context: "ctx", Namespaces: []string{"a", "b", "c"}})
		if err == nil || !strings.Contains(err.Error(), "context ctx: credential plugin sh failed: exit code 1") {
			t.Errorf("got %v, want the plugin's exit code", err)
		}
	}
	if lines, err := os.ReadFile(runs); string(lines) != "\n" || err != nil {
		t.Errorf("plugin runs: got %d (%v), want 1", len(lines), err)
	}
}

// Requests that an overloaded API server rejects are retried. If it is still
// overloaded at the first snapshot, Ready reports no error.
func TestReadyWithThrottlingServer(t *testing.T) {
	t.Parallel()
	for want, rejected := range map[string]int32{
		"namespace a not found or empty (context ctx); waiting": 6,
		"context ctx: Too Many Requests":                        math.MaxInt32,
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			server := apiServer(t, func(string, string) int {
				if requests.Add(1) <= rejected {
					return http.StatusTooManyRequests
				}
				return http.StatusOK
			})
			cluster := &Cluster{Context: "ctx", Config: &rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}}
			source, err := follow(t, func(context.Context, string) (*Cluster, error) { return cluster, nil }, Follow{Context: "ctx", Namespaces: []string{"a"}})
			if err != nil {
				t.Fatal(err)
			}
			if got := source.Snapshot().Clusters[0].Problems; len(got) != 1 || !strings.HasPrefix(got[0], want) {
				t.Errorf("problems: got %q, want %q", got, want)
			}
		})
	}
}

// A named Service is read separately only if the objects of all namespaces can't be.
func TestNamedServiceWithAllNamespaces(t *testing.T) {
	for name, c := range map[string]struct {
		denied     string // resources that can't be read in all namespaces
		separately bool   // the Service is read separately
	}{
		"all allowed":           {"", false},
		"services denied":       {"services", true},
		"endpoints denied":      {"endpointslices pods", true},
		"endpointslices denied": {"endpointslices", false},
	} {
		t.Run(name, func(t *testing.T) {
			var separately atomic.Bool
			server := apiServer(t, func(namespace, resource string) int {
				switch {
				case namespace == "shop":
					separately.Store(true)
				case strings.Contains(c.denied, resource):
					return http.StatusForbidden
				}
				return http.StatusOK
			})
			cluster := &Cluster{Context: "ctx", Config: &rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}}
			_, err := follow(t, func(context.Context, string) (*Cluster, error) { return cluster, nil }, Follow{Context: "ctx", Services: []types.NamespacedName{{Namespace: "shop", Name: "web"}}})
			if err != nil {
				t.Fatal(err)
			}
			if got := separately.Load(); got != c.separately {
				t.Errorf("service read separately: got %v, want %v", got, c.separately)
			}
		})
	}
}
