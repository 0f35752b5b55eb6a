package tunnel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"k8s.io/client-go/rest"
	certutil "k8s.io/client-go/util/cert"

	"github.com/kubeshore/kubeshore/pkg/fwd"
)

// respondWith returns a handler that responds with a body.
func respondWith(code int, kind, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

// respondStatus returns a handler that responds like an API server.
func respondStatus(code int, message string) http.HandlerFunc {
	return respondWith(code, "application/json", fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","message":%q,"code":%d}`, message, code))
}

func respondForbidden(verb string) http.HandlerFunc {
	return respondStatus(403, `pods "pod" is forbidden: User "u" cannot `+verb+` resource "pods/portforward" in API group "" in the namespace "ns"`)
}

func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

const html = "<html>log in</html>"

// If only one transport gets through to the API server, Auto uses that one, and
// tries it first from then on.
func TestAutoUsesTransportThatGetsThrough(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"403 from a gateway":             respondWith(403, "text/html", html),
		"403 from the API server":        respondForbidden("create"),
		"400":                            respondWith(400, "text/plain", "upgrade required"),
		"a hang-up":                      hangUp,
		"200 with HTML":                  respondWith(200, "text/html; charset=utf-8", html),
		"a redirect":                     http.RedirectHandler("/login", http.StatusFound).ServeHTTP,
		"an upgrade to another protocol": respondWith(101, "", ""),
	} {
		for _, blocked := range []Transport{SPDY, WebSocket} {
			t.Run(fmt.Sprintf("%v: %s", blocked, name), func(t *testing.T) {
				s := newAPIServer(t, nil)
				c := newTestCluster(t, s.config(), Auto)
				open := SPDY + WebSocket - blocked
				c.prefer(blocked)
				s.respond(blocked, handler)
				mustExchange(t, c, s, blocked, open)
				mustExchange(t, c, s, open)
				s.respond(open, handler)
				s.respond(blocked, nil)
				mustExchange(t, c, s, open, blocked)
			})
		}
	}
}

func TestAutoTriesSPDYFirst(t *testing.T) {
	s := newAPIServer(t, nil)
	mustExchange(t, newTestCluster(t, s.config(), Auto), s, SPDY)
}

func TestForcedTransportIsOnlyOneTried(t *testing.T) {
	for _, with := range []Transport{SPDY, WebSocket} {
		s := newAPIServer(t, nil)
		c := newTestCluster(t, s.config(), with)
		mustExchange(t, c, s, with)
		s.respond(with, hangUp)
		_ = wantUnreached(t, c, fwd.ClusterUnreachable, "didn't respond to the upgrade request: ")
		if got, want := s.takeRequests(), []Transport{with}; !slices.Equal(got, want) {
			t.Errorf("got requests for %v, want %v", got, want)
		}
	}
}

// wantUnreached dials and compares the error, which must be a single line.
func wantUnreached(t *testing.T, c *cluster, why fwd.Reason, text string) string {
	t.Helper()
	err := exchange(t.Context(), c)
	var unreached *fwd.UnreachedError
	if !errors.As(err, &unreached) || unreached.Reason != why || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v (%T), want reason %d, %q", err, err, why, text)
	}
	return fmt.Sprint(err)
}

// The error of a failed upgrade is a single line that reports each reason once. The
// server gets no more requests than necessary.
func TestUpgradeErrors(t *testing.T) {
	const denied = "not allowed to create pods/portforward in namespace ns (context ctx)"
	for name, c := range map[string]struct {
		with            Transport
		spdy, websocket http.HandlerFunc
		why             fwd.Reason
		want            string
		requests        int
	}{
		"neither allowed":               {Auto, respondForbidden("create"), respondForbidden("get"), fwd.Denied, denied, 2},
		"1.35, no create":               {Auto, respondForbidden("create"), respondStatus(403, `pods "pod" is forbidden: `), fwd.Denied, denied, 2},
		"1.35, no create, RBAC":         {WebSocket, nil, respondStatus(403, `pods "pod" is forbidden: RBAC: clusterrole "x" not found`), fwd.Denied, denied, 1},
		"create not allowed":            {SPDY, respondForbidden("create"), nil, fwd.Denied, denied, 1},
		"get not allowed":               {WebSocket, nil, respondForbidden("get"), fwd.Denied, "not allowed to get pods/portforward in namespace ns (context ctx)", 1},
		"denied by admission":           {SPDY, respondStatus(403, `pods "pod" is forbidden: not on Fridays`), nil, fwd.Denied, "403 Forbidden (application/json): pods \"pod\" is forbidden: not on Fridays", 1},
		"gateway, then get not allowed": {Auto, respondWith(403, "text/html", html), respondForbidden("get"), fwd.Denied, "spdy: the API server, or a proxy in front of it, responded to the upgrade request with 403 Forbidden (text/html); websocket: not allowed to get", 2},
		"HTML":                          {Auto, respondWith(200, "text/html; charset=utf-8", html), respondWith(200, "text/html", html), fwd.Denied, "the API server, or a proxy in front of it, responded to the upgrade request with 200 OK (text/html)", 2},
		"overloaded":                    {Auto, respondWith(503, "text/plain", "soon\nagain"), respondWith(503, "text/plain", "soon\nagain"), fwd.ClusterUnreachable, "503 Service Unavailable (text/plain): soon again", 2},
		"no pod":                        {Auto, respondStatus(404, `pods "pod" not found`), nil, fwd.PodGone, `pods "pod" not found`, 1},
		"unscheduled pod":               {Auto, respondStatus(400, "pod x does not have a host assigned"), nil, fwd.PodGone, "the pod is gone", 1},
		"unreachable node":              {Auto, respondStatus(500, "error dialing backend: dial tcp 10.0.0.9:10250: connect: connection refused"), nil, fwd.NodeUnreachable, "the API server cannot reach the pod's node", 1},
		"stopped pod":                   {Auto, respondWith(500, "text/plain", "sandbox container is not running"), nil, fwd.PodGone, "the pod is gone: sandbox container is not running", 1},
		"no pod, WebSocket":             {Auto, hangUp, respondStatus(404, `pods "pod" not found`), fwd.PodGone, `pods "pod" not found`, 2},
		"rejected credentials":          {Auto, respondStatus(401, "Unauthorized"), nil, fwd.Denied, "rejected the credentials of context ctx", 2},
		"runtime error": {
			Auto, respondStatus(500, "rpc error: code = Unavailable desc = connection error"), respondStatus(500, "rpc error: code = Unavailable desc = connection error"),
			fwd.PodGone, "rpc error: code = Unavailable", 2,
		},
		"etcd has no leader": {Auto, respondStatus(500, "etcdserver: leader changed"), respondStatus(500, "etcdserver: leader changed"), fwd.ClusterUnreachable, "leader changed", 2},
		"error from a proxy": {Auto, respondWith(500, "text/html", html), respondWith(500, "text/html", html), fwd.Denied, "500 Internal Server Error (text/html)", 2},
		"hang-ups":           {Auto, hangUp, hangUp, fwd.ClusterUnreachable, "didn't respond to the upgrade request: ", 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := newAPIServer(t, nil)
			s.respond(SPDY, c.spdy)
			s.respond(WebSocket, c.websocket)
			text := wantUnreached(t, newTestCluster(t, s.config(), c.with), c.why, c.want)
			if c.want == denied && text != denied || strings.Count(text, "; websocket: ") > 1 {
				t.Errorf("got error %q, want each reason once", text)
			}
			if got := s.takeRequests(); len(got) != c.requests {
				t.Errorf("got requests for %v, want %d", got, c.requests)
			}
		})
	}
}

func TestUnreachableServer(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	s := newAPIServer(t, nil)
	untrusted := s.config()
	untrusted.CAData = nil
	for name, config := range map[string]*rest.Config{
		"refused":           {Host: closed.URL},
		"no such name":      {Host: "https://nowhere.invalid"},
		"wrong certificate": untrusted,
		"no TLS":            {Host: "https://" + plainServer(t)},
	} {
		for _, with := range []Transport{Auto, WebSocket} {
			text := wantUnreached(t, newTestCluster(t, config, with), fwd.ClusterUnreachable, "cannot reach the API server "+config.Host+": ")
			if !strings.Contains(text, "cannot reach ") || strings.Contains(text, "; websocket") {
				t.Errorf("%s, %v: got error %q, want one reason", name, with, text)
			}
		}
	}
	if got := s.takeRequests(); len(got) != 0 {
		t.Errorf("got requests for %v at an untrusted server, want none", got)
	}
}

// plainServer returns the address of a server without TLS.
func plainServer(t *testing.T) string {
	s := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// A dial returns when its context ends, at every stage.
func TestDialEndsWithItsContext(t *testing.T) {
	reason := errors.New("enough")
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, with := range []Transport{Auto, SPDY, WebSocket} {
		for _, through := range []string{"", "proxy", "tls"} {
			ctx, cancel := context.WithCancelCause(t.Context())
			s := newAPIServer(t, nil)
			slow := func(_ http.ResponseWriter, r *http.Request) {
				cancel(reason)
				<-r.Context().Done()
			}
			s.respond(SPDY, slow)
			s.respond(WebSocket, slow)
			config := s.config()
			if through != "" {
				if through == "proxy" {
					config.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: silent.Addr().String()})
				} else {
					config.Host = "https://" + silent.Addr().String()
				}
				config.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
					defer cancel(reason)
					return (&net.Dialer{}).DialContext(ctx, network, addr)
				}
			}
			if err := exchange(ctx, newTestCluster(t, config, with)); !errors.Is(err, reason) || errors.As(err, new(*fwd.UnreachedError)) {
				t.Errorf("%v %s: got error %v, want %v", with, through, err, reason)
			}
		}
	}
}

// connectProxy runs an HTTP proxy that supports and counts CONNECT.
func connectProxy(t *testing.T) (*url.URL, *atomic.Int32) {
	t.Helper()
	var count atomic.Int32
	var copying sync.WaitGroup
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Header.Get("Proxy-Authorization") == "" {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		count.Add(1)
		there, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(here, "HTTP/1.1 200 Connection established\r\n\r\n")
		for _, pair := range [][2]net.Conn{{here, there}, {there, here}} {
			copying.Go(func() {
				_, _ = io.Copy(pair[0], pair[1])
				_, _ = here.Close(), there.Close()
			})
		}
	}))
	t.Cleanup(func() {
		proxy.Close()
		copying.Wait()
	})
	address, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword("user", "passwd")
	return address, &count
}

func TestDialThroughProxy(t *testing.T) {
	for _, with := range []Transport{SPDY, WebSocket} {
		s := newAPIServer(t, nil)
		proxy, count := connectProxy(t)
		config := s.config()
		config.Proxy = http.ProxyURL(proxy)
		mustExchange(t, newTestCluster(t, config, with), s, with)
		if n := count.Load(); n != 1 {
			t.Errorf("%v: got %d connections through the proxy, want 1", with, n)
		}
		anonymous := *proxy
		anonymous.User = nil
		config.Proxy = http.ProxyURL(&anonymous)
		_ = wantUnreached(t, newTestCluster(t, config, with), fwd.ClusterUnreachable, "Proxy Authentication Required")
		config.Proxy = func(*http.Request) (*url.URL, error) { return nil, errors.New("invalid proxy address user:passwd@") }
		if text := wantUnreached(t, newTestCluster(t, config, with), fwd.ClusterUnreachable, "proxy address"); strings.Contains(text, "passwd") {
			t.Errorf("got error %q, want one without the password", text)
		}
	}
}

// A proxy's status line without text makes gorilla's dialer panic. The dial returns
// an error.
func TestProxyStatusWithoutText(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, "HTTP/1.1 403\r\n\r\n")
			_ = conn.Close()
		}
	}()
	defer func() {
		_ = l.Close()
		<-served
	}()
	config := newAPIServer(t, nil).config()
	config.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: l.Addr().String()})
	for _, with := range []Transport{SPDY, WebSocket} {
		_ = wantUnreached(t, newTestCluster(t, config, with), fwd.ClusterUnreachable, "cannot reach ")
	}
}

func TestServerNameOverride(t *testing.T) {
	for _, with := range []Transport{SPDY, WebSocket} {
		s := newAPIServer(t, nil)
		config := s.config()
		config.ServerName = "example.com" // in httptest's certificate
		mustExchange(t, newTestCluster(t, config, with), s, with)
		config.ServerName = "other.test"
		_ = wantUnreached(t, newTestCluster(t, config, with), fwd.ClusterUnreachable, "other.test")
	}
}

func TestClientCertificateIsUsed(t *testing.T) {
	cert, key, err := certutil.GenerateSelfSignedCertKey("user", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, with := range []Transport{SPDY, WebSocket} {
		s := newAPIServer(t, func(s *httptest.Server) {
			s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
		})
		config := s.config()
		_ = wantUnreached(t, newTestCluster(t, config, with), fwd.ClusterUnreachable, "certificate required")
		config.CertData, config.KeyData = cert, key
		mustExchange(t, newTestCluster(t, config, with), s, with)
	}
}

// The token file is read again for each connection.
func TestTokenFileIsReread(t *testing.T) {
	for _, with := range []Transport{SPDY, WebSocket} {
		s := newAPIServer(t, nil)
		var good atomic.Value
		s.Config.Handler = requireToken(s, &good)
		config := s.config()
		config.BearerTokenFile = filepath.Join(t.TempDir(), "token")
		c := newTestCluster(t, config, with)
		for _, token := range []string{"first", "second"} {
			good.Store(token)
			if err := os.WriteFile(config.BearerTokenFile, []byte(token), 0o600); err != nil {
				t.Fatal(err)
			}
			mustExchange(t, c, s, with)
		}
	}
}

// requireToken returns a handler that responds 401 to requests without the token.
func requireToken(s *apiServer, token *atomic.Value) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != fmt.Sprint("Bearer ", token.Load()) {
			respondStatus(401, "Unauthorized")(w, r)
			return
		}
		s.ServeHTTP(w, r)
	})
}

// TLS sessions are resumed, but not after a 401, because they keep the client
// certificate.
func TestSessionsAreResumed(t *testing.T) {
	for _, with := range []Transport{SPDY, WebSocket} {
		s := newAPIServer(t, func(s *httptest.Server) { s.TLS = &tls.Config{ClientCAs: x509.NewCertPool()} })
		c := newTestCluster(t, s.config(), with)
		for range 3 {
			if err := exchange(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		s.respond(with, respondStatus(401, "Unauthorized"))
		_ = wantUnreached(t, c, fwd.Denied, "credentials")
		if want := []bool{false, true, true, true, false}; !slices.Equal(s.resumed, want) {
			t.Errorf("%v: got resumed %v, want %v", with, s.resumed, want)
		}
	}
}
