package kube

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kubeshore/kubeshore/pkg/credential"
)

func kubeconfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// load loads a context of the kubeconfig at a path.
func load(t *testing.T, path, name string) (*Cluster, error) {
	t.Helper()
	return NewKubeconfig(path, "agent", credential.NewPlugins(nil, nil), nil).Load(t.Context(), name)
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
		got, err := load(t, path, context)
		if err != nil {
			t.Fatal(err)
		}
		if got.Context != want.Context || got.Namespace != want.Namespace || got.Config.Host != "https://127.0.0.1:1" {
			t.Errorf("context %q: got context %s, namespace %s, host %s, want %s, %s, https://127.0.0.1:1",
				context, got.Context, got.Namespace, got.Config.Host, want.Context, want.Namespace)
		}
	}
}

func TestLoadErrors(t *testing.T) {
	for name, c := range map[string]struct{ path, context, want string }{
		"missing":         {filepath.Join(t.TempDir(), "none"), "", "none"},
		"empty":           {kubeconfig(t, ""), "", "no kubeconfig"},
		"not YAML":        {kubeconfig(t, "{"), "", "yaml"},
		"unknown context": {kubeconfig(t, twoContexts), "stage", "dev, prod"},
		"no current":      {kubeconfig(t, strings.Replace(twoContexts, "current-context: dev", "", 1)), "", "dev, prod"},
		"no cluster":      {kubeconfig(t, strings.ReplaceAll(twoContexts, "cluster: k,", "cluster: x,")), "", "dev"},
	} {
		_, err := load(t, c.path, c.context)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want a line with %q", name, err, c.want)
		}
	}
}

func TestClustersDifferByProxy(t *testing.T) {
	with := func(proxy string) *Cluster {
		t.Helper()
		text := strings.ReplaceAll(twoContexts, `server: "https://127.0.0.1:1"`, `server: "https://127.0.0.1:1", proxy-url: "`+proxy+`"`)
		c, err := load(t, kubeconfig(t, text), "dev")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a := with("http://a")
	for name, c := range map[string]struct {
		other *Cluster
		want  bool
	}{"same proxy": {with("http://a"), true}, "other proxy": {with("http://b"), false}, "none": {nil, false}} {
		if got := a.same(c.other); got != c.want {
			t.Errorf("%s: got same = %v, want %v", name, got, c.want)
		}
	}
}
