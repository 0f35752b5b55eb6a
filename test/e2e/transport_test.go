//go:build e2e

package e2e

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/kubeshore/kubeshore/test/peer"
)

// Both port-forward protocols of the API server work, and --transport selects
// the protocol.
func TestTransportsUseTheirProtocol(t *testing.T) {
	ns, host := namespaceWithPeer(t)
	g := newGateway(t)
	for transport, upgrade := range map[string]string{"spdy": "SPDY/3.1", "websocket": "websocket"} {
		t.Run(transport, func(t *testing.T) {
			g.reset()
			up(t, "--kubeconfig", g.kubeconfig, "-n", ns, "--transport", transport)
			if _, err := request(host, peer.Echo, "hello", "hello"); err != nil {
				t.Error(err)
			}
			const size = 20_000_000
			if err := receive(openDownload(t, host, size), 1, size); err != nil {
				t.Error(err)
			}
			if seen := g.seen(); !slices.Equal(seen, []string{upgrade}) {
				t.Errorf("got upgrades to %q, want %q", seen, upgrade)
			}
		})
	}
}

// gateway is a proxy to the API server that uses the test's credentials and
// records protocol upgrades.
type gateway struct {
	kubeconfig string // uses the gateway

	mu       sync.Mutex
	upgrades []string
}

func newGateway(t *testing.T) *gateway {
	t.Helper()
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		clientcmd.NewDefaultClientConfigLoadingRules(), nil).ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	config.NextProtos = []string{"http/1.1"} // HTTP/2 has no protocol upgrades
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     transport,
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
	}
	g := &gateway{kubeconfig: filepath.Join(t.TempDir(), "kubeconfig")}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.record(r.Header.Get("Upgrade"))
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	to := clientcmdapi.NewConfig()
	to.Clusters["gateway"] = &clientcmdapi.Cluster{
		Server:                   server.URL,
		CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
	}
	to.AuthInfos["nobody"] = &clientcmdapi.AuthInfo{}
	to.Contexts["gateway"] = &clientcmdapi.Context{Cluster: "gateway", AuthInfo: "nobody"}
	to.CurrentContext = "gateway"
	if err := clientcmd.WriteToFile(*to, g.kubeconfig); err != nil {
		t.Fatal(err)
	}
	return g
}

// record records the protocol of an upgrade; "" if there is none.
func (g *gateway) record(upgrade string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if upgrade != "" && !slices.Contains(g.upgrades, upgrade) {
		g.upgrades = append(g.upgrades, upgrade)
	}
}

// reset forgets the recorded upgrades.
func (g *gateway) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.upgrades = nil
}

func (g *gateway) seen() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.upgrades)
}
