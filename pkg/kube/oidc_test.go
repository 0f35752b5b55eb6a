package kube

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// idToken returns a token that expires at a time, as far as its reader checks.
func idToken(name string, expires time.Time) string {
	claims := fmt.Sprintf(`{"sub":%q,"exp":%d}`, name, expires.Unix())
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".e30"
}

// oidcServers are an identity provider, which issues the token fresh, and an API server.
type oidcServers struct {
	issuer, api *httptest.Server
	fresh       string
	refreshes   atomic.Int32
	got         atomic.Pointer[string] // the Authorization header of the last request
}

func newOIDCServers(t *testing.T) *oidcServers {
	s := &oidcServers{fresh: idToken("fresh", time.Now().Add(time.Hour))}
	s.issuer = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "openid-configuration") {
			fmt.Fprintf(w, `{"token_endpoint":"%s/token"}`, s.issuer.URL)
			return
		}
		s.refreshes.Add(1)
		fmt.Fprintf(w, `{"access_token":"a","token_type":"Bearer","refresh_token":"next","id_token":%q}`, s.fresh)
	}))
	t.Cleanup(s.issuer.Close)
	s.api = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		authorization := r.Header.Get("Authorization")
		s.got.Store(&authorization)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"kind":"NamespaceList","apiVersion":"v1","items":[]}`)
	}))
	t.Cleanup(s.api.Close)
	return s
}

// kubeconfig returns a kubeconfig with an expired token.
func (s *oidcServers) kubeconfig() string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Config
clusters: [{name: k, cluster: {server: %q, insecure-skip-tls-verify: true}}]
users: [{name: u, user: {auth-provider: {name: oidc, config: {idp-issuer-url: %q, client-id: c, id-token: %q, refresh-token: first}}}}]
contexts: [{name: ctx, context: {cluster: k, user: u}}]
current-context: ctx
`, s.api.URL, s.issuer.URL, idToken("old", time.Now().Add(-time.Hour)))
}

// wantToken sends a request, and checks its token.
func (s *oidcServers) wantToken(t *testing.T, cluster *Cluster, want string) {
	t.Helper()
	if _, err := cluster.NamespaceNames(context.Background()); err != nil || *s.got.Load() != "Bearer "+want {
		t.Errorf("got %s, %v, want token %s", *s.got.Load(), err, want)
	}
}

// An expired id-token is refreshed at the identity provider and written to the
// kubeconfig. Neither that nor another program's new token restarts anything.
func TestOIDC(t *testing.T) {
	s := newOIDCServers(t)
	path := kubeconfig(t, s.kubeconfig())
	cluster, err := load(t, path, "")
	if err != nil {
		t.Fatal(err)
	}
	s.wantToken(t, cluster, s.fresh)
	s.wantToken(t, cluster, s.fresh)
	if n := s.refreshes.Load(); n != 1 {
		t.Errorf("got %d refreshes, want 1", n)
	}
	written, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(written), s.fresh) || !strings.Contains(string(written), "refresh-token: next") {
		t.Errorf("kubeconfig: got %s, %v, want the new tokens", written, err)
	}
	other := idToken("other", time.Now().Add(time.Hour))
	for _, want := range []string{s.fresh, other} {
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(written), s.fresh, want)), 0o600); err != nil {
			t.Fatal(err)
		}
		loaded, err := load(t, path, "")
		if err != nil || !loaded.same(cluster) {
			t.Fatalf("after tokens changed: got %v, or a different entry", err)
		}
		if err := cluster.Gate.Refresh(loaded.Config); err != nil {
			t.Error(err)
		}
		s.wantToken(t, cluster, want)
	}
}

// The auth-providers that client-go no longer has name their successors.
func TestRemovedAuthProviders(t *testing.T) {
	for name, want := range map[string]string{"gcp": "gke-gcloud-auth-plugin", "azure": "kubelogin"} {
		text := strings.ReplaceAll(twoContexts, "{token: t}", "{auth-provider: {name: "+name+", config: {}}}")
		if _, err := load(t, kubeconfig(t, text), ""); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
}
