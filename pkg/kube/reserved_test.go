package kube

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/kubeshore/kubeshore/pkg/credential"
)

func TestReservedHosts(t *testing.T) {
	for _, variable := range []string{"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"} {
		t.Setenv(variable, "")
	}
	t.Setenv("https_proxy", "Squid.corp:3128")
	t.Setenv("ALL_PROXY", "socks5://user:secret@socks.corp:1080")
	path := filepath.Join(t.TempDir(), "config")
	const kubeconfig = `
apiVersion: v1
kind: Config
current-context: one
contexts:
- {name: one, context: {cluster: one, user: plugin}}
- {name: two, context: {cluster: two, user: oidc}}
clusters:
- {name: one, cluster: {server: "https://rancher:16443/k8s/clusters/c-1"}}
- {name: two, cluster: {server: "https://API.eu.example.com.", proxy-url: "http://proxy.eu:8080"}}
- {name: address, cluster: {server: "https://[::1]:6443"}}
- {name: unused, cluster: {server: "unused.test:6443"}}
- {name: international, cluster: {server: "https://аррӏе:6443"}}
- {name: underscore, cluster: {server: "https://API_server.test:6443"}}
users:
- name: plugin
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1
      interactiveMode: Never
      command: kubelogin
      args: [get-token, --oidc-issuer-url=https://issuer.corp/realm, --plain, "http://127.0.0.1:8000"]
      env: [{name: ENDPOINT, value: "https://sts.corp"}, {name: MIRRORS, value: "a=https://one.corp/x,https://two.corp; https://three.corp:8443"}]
- name: oidc
  user: {auth-provider: {name: oidc, config: {idp-issuer-url: "https://dex.corp", client-id: kubernetes}}}
`
	if err := os.WriteFile(path, []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	k := NewKubeconfig(path, "agent", credential.NewPlugins(nil, nil), nil)
	if _, err := k.Load(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"rancher": "the API server of cluster one", "api.eu.example.com": "the API server of cluster two", "proxy.eu": "the proxy of cluster two",
		"xn--80ak6aa92e": "the API server of cluster international", "api_server.test": "the API server of cluster underscore",
		"unused.test": "the API server of cluster unused", "squid.corp": "the proxy of https_proxy", "socks.corp": "the proxy of ALL_PROXY",
		"issuer.corp": "used by the credentials of user plugin", "sts.corp": "used by the credentials of user plugin",
		"one.corp": "used by the credentials of user plugin", "two.corp": "used by the credentials of user plugin", "three.corp": "used by the credentials of user plugin",
		"dex.corp": "used by the credentials of user oidc",
	}
	if !maps.Equal(k.ReservedHosts(), want) {
		t.Errorf("got %v, want %v", k.ReservedHosts(), want)
	}
}
