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

// says answers with a body.
func says(code int, kind, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

// status answers as an API server does.
func status(code int, message string) http.HandlerFunc {
	return says(code, "application/json", fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","message":%q,"code":%d}`, message, code))
}

func forbids(verb string) http.HandlerFunc {
	return status(403, `pods "pod" is forbidden: User "u" cannot `+verb+` resource "pods/portforward" in API group "" in the namespace "ns"`)
}

func hangsUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

const html = "<html>log in</html>"

// Whatever stands before the API server and lets only one transport through:
// the other one is taken, and first from then on.
func TestAutoTakesWhatGetsThrough(t *testing.T) {
	for name, refuse := range map[string]http.HandlerFunc{
		"403 by a gateway":        says(403, "text/html", html),
		"403 by the API server":   forbids("create"),
		"400":                     says(400, "text/plain", "upgrade required"),
		"a hang-up":               hangsUp,
		"200 with HTML":           says(200, "text/html; charset=utf-8", html),
		"a redirect":              http.RedirectHandler("/login", http.StatusFound).ServeHTTP,
		"an upgrade to something": says(101, "", ""),
	} {
		for _, blocked := range []Transport{SPDY, WebSocket} {
			t.Run(fmt.Sprintf("%v: %s", blocked, name), func(t *testing.T) {
				s := newAPIServer(t, nil)
				c := newTestCluster(t, s.config(), Auto)
				open := SPDY + WebSocket - blocked
				c.prefer(blocked)
				s.answer(blocked, refuse)
				mustExchange(t, c, s, blocked, open)
				mustExchange(t, c, s, open)
				s.answer(open, refuse)
				s.answer(blocked, nil)
				mustExchange(t, c, s, open, blocked)
			})
		}
	}
}

func TestAutoTakesSPDYFirst(t *testing.T) {
	s := newAPIServer(t, nil)
	mustExchange(t, newTestCluster(t, s.config(), Auto), s, SPDY)
}

func TestForcedTransportAlone(t *testing.T) {
	for _, with := range []Transport{SPDY, WebSocket} {
		s := newAPIServer(t, nil)
		c := newTestCluster(t, s.config(), with)
		mustExchange(t, c, s, with)
		s.answer(with, hangsUp)
		_ = wantUnreached(t, c, fwd.ClusterUnreachable, "doesn't answer the upgrade: ")
		if got := s.requests(); !slices.Equal(got, []Transport{with}) {
			t.Errorf("the server was asked for %v", got)
		}
	}
}

// wantUnreached dials and compares the error, which must be one line.
func wantUnreached(t *testing.T, c *cluster, why fwd.Reason, text string) string {
	t.Helper()
	err := exchange(t.Context(), c)
	var unreached *fwd.UnreachedError
	if !errors.As(err, &unreached) || unreached.Reason != why || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v (%T), want reason %d, %q", err, err, why, text)
	}
	return fmt.Sprint(err)
}

// What both transports are refused by, in one line that says it once, or the
// one that was forced; and how often the server is asked.
func TestRefusals(t *testing.T) {
	const denied = "may not create pods/portforward in namespace ns of context ctx"
	for name, c := range map[string]struct {
		with            Transport
		spdy, websocket http.HandlerFunc
		why             fwd.Reason
		want            string
		asked           int
	}{
		"no right to either":     {Auto, forbids("create"), forbids("get"), fwd.Denied, denied, 2},
		"1.35, no create":        {Auto, forbids("create"), status(403, `pods "pod" is forbidden: `), fwd.Denied, denied, 2},
		"1.35, no create, RBAC":  {WebSocket, nil, status(403, `pods "pod" is forbidden: RBAC: clusterrole "x" not found`), fwd.Denied, denied, 1},
		"no right, SPDY":         {SPDY, forbids("create"), nil, fwd.Denied, denied, 1},
		"no right, WebSocket":    {WebSocket, nil, forbids("get"), fwd.Denied, "may not get pods/portforward in namespace ns of context ctx", 1},
		"an admission's no":      {SPDY, status(403, `pods "pod" is forbidden: not on Fridays`), nil, fwd.Denied, "403 Forbidden (application/json): pods \"pod\" is forbidden: not on Fridays", 1},
		"a gateway, then no get": {Auto, says(403, "text/html", html), forbids("get"), fwd.Denied, "spdy: the API server, or what stands before it, answers the upgrade with 403 Forbidden (text/html); websocket: may not get", 2},
		"HTML":                   {Auto, says(200, "text/html; charset=utf-8", html), says(200, "text/html", html), fwd.Denied, "the API server, or what stands before it, answers the upgrade with 200 OK (text/html)", 2},
		"overloaded":             {Auto, says(503, "text/plain", "soon\nagain"), says(503, "text/plain", "soon\nagain"), fwd.ClusterUnreachable, "503 Service Unavailable (text/plain): soon again", 2},
		"no pod":                 {Auto, status(404, `pods "pod" not found`), nil, fwd.PodGone, `pods "pod" not found`, 1},
		"a pod in no node":       {Auto, status(400, "pod x does not have a host assigned"), nil, fwd.PodGone, "the pod is gone", 1},
		"a node away":            {Auto, status(500, "error dialing backend: dial tcp 10.0.0.9:10250: connect: connection refused"), nil, fwd.PodGone, "the pod's node can't be reached", 1},
		"a pod that has ended":   {Auto, says(500, "text/plain", "sandbox container is not running"), nil, fwd.PodGone, "the pod is gone: sandbox container is not running", 1},
		"no pod, by WebSocket":   {Auto, hangsUp, status(404, `pods "pod" not found`), fwd.PodGone, `pods "pod" not found`, 2},
		"no credentials":         {Auto, status(401, "Unauthorized"), nil, fwd.Denied, "does not accept the credentials of context ctx", 2},
		"a runtime away": {
			Auto, status(500, "rpc error: code = Unavailable desc = connection error"), status(500, "rpc error: code = Unavailable desc = connection error"),
			fwd.PodGone, "rpc error: code = Unavailable", 2,
		},
		"etcd has no leader": {Auto, status(500, "etcdserver: leader changed"), status(500, "etcdserver: leader changed"), fwd.ClusterUnreachable, "leader changed", 2},
		"a proxy's fault":    {Auto, says(500, "text/html", html), says(500, "text/html", html), fwd.Denied, "500 Internal Server Error (text/html)", 2},
		"hang-ups":           {Auto, hangsUp, hangsUp, fwd.ClusterUnreachable, "doesn't answer the upgrade: ", 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := newAPIServer(t, nil)
			s.answer(SPDY, c.spdy)
			s.answer(WebSocket, c.websocket)
			text := wantUnreached(t, newTestCluster(t, s.config(), c.with), c.why, c.want)
			if c.want == denied && text != denied || strings.Count(text, "; websocket: ") > 1 {
				t.Errorf("it says %q", text)
			}
			if asked := s.requests(); len(asked) != c.asked {
				t.Errorf("the server was asked for %v", asked)
			}
		})
	}
}

func TestServerAway(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	s := newAPIServer(t, nil)
	stranger := s.config()
	stranger.CAData = nil
	for name, config := range map[string]*rest.Config{
		"refused":           {Host: closed.URL},
		"no such name":      {Host: "https://nowhere.invalid"},
		"wrong certificate": stranger,
		"no TLS":            {Host: "https://" + plain(t)},
	} {
		for _, with := range []Transport{Auto, WebSocket} {
			text := wantUnreached(t, newTestCluster(t, config, with), fwd.ClusterUnreachable, "the API server "+config.Host)
			if !strings.Contains(text, "can't be reached: ") || strings.Contains(text, "; websocket") {
				t.Errorf("%s, %v: %s", name, with, text)
			}
		}
	}
	if asked := s.requests(); len(asked) != 0 {
		t.Errorf("a stranger was asked for %v", asked)
	}
}

// plain is the address of a server without TLS.
func plain(t *testing.T) string {
	s := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// The end of the dial's context ends it, wherever it is.
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
			s.answer(SPDY, slow)
			s.answer(WebSocket, slow)
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
				t.Errorf("%v %s: %v", with, through, err)
			}
		}
	}
}

// connectProxy is an HTTP proxy that knows CONNECT, and counts those.
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

func TestProxy(t *testing.T) {
	for _, with := range []Transport{SPDY, WebSocket} {
		s := newAPIServer(t, nil)
		proxy, count := connectProxy(t)
		config := s.config()
		config.Proxy = http.ProxyURL(proxy)
		mustExchange(t, newTestCluster(t, config, with), s, with)
		if n := count.Load(); n != 1 {
			t.Errorf("%v: %d connections through the proxy", with, n)
		}
		stranger := *proxy
		stranger.User = nil
		config.Proxy = http.ProxyURL(&stranger)
		_ = wantUnreached(t, newTestCluster(t, config, with), fwd.ClusterUnreachable, "Proxy Authentication Required")
		config.Proxy = func(*http.Request) (*url.URL, error) { return nil, errors.New("invalid proxy address user:passwd@") }
		if text := wantUnreached(t, newTestCluster(t, config, with), fwd.ClusterUnreachable, "address of the proxy"); strings.Contains(text, "passwd") {
			t.Errorf("a password is told: %s", text)
		}
	}
}

// A proxy whose refusal has no words makes gorilla's dialer panic.
func TestProxyOfFewWords(t *testing.T) {
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
		_ = wantUnreached(t, newTestCluster(t, config, with), fwd.ClusterUnreachable, "can't be reached")
	}
}

func TestServerName(t *testing.T) {
	for _, with := range []Transport{SPDY, WebSocket} {
		s := newAPIServer(t, nil)
		config := s.config()
		config.ServerName = "example.com" // httptest's certificate has it
		mustExchange(t, newTestCluster(t, config, with), s, with)
		config.ServerName = "other.test"
		_ = wantUnreached(t, newTestCluster(t, config, with), fwd.ClusterUnreachable, "other.test")
	}
}

func TestClientCertificate(t *testing.T) {
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

// A token file is read again for each connection.
func TestTokenFile(t *testing.T) {
	for _, with := range []Transport{SPDY, WebSocket} {
		s := newAPIServer(t, nil)
		var good atomic.Value
		s.Config.Handler = onlyFor(s, &good)
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

// onlyFor answers 401 to all who haven't the token.
func onlyFor(s *apiServer, token *atomic.Value) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != fmt.Sprint("Bearer ", token.Load()) {
			status(401, "Unauthorized")(w, r)
			return
		}
		s.ServeHTTP(w, r)
	})
}

// TLS sessions are resumed, but not those from before a 401: they have the
// client certificate of then.
func TestSessionsAreResumed(t *testing.T) {
	for _, with := range []Transport{SPDY, WebSocket} {
		s := newAPIServer(t, func(s *httptest.Server) { s.TLS = &tls.Config{ClientCAs: x509.NewCertPool()} })
		c := newTestCluster(t, s.config(), with)
		for range 3 {
			if err := exchange(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		s.answer(with, status(401, "Unauthorized"))
		_ = wantUnreached(t, c, fwd.Denied, "credentials")
		if want := []bool{false, true, true, true, false}; !slices.Equal(s.resumed, want) {
			t.Errorf("%v: resumed %v, want %v", with, s.resumed, want)
		}
	}
}
