package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"

	"github.com/kubeshore/kubeshore/pkg/credential"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// preferenceWindow is how long WebSocket is preferred once SPDY was refused: that
// may have been a passing fault.
const preferenceWindow = 10 * time.Minute

// Cluster says how a cluster's API server is reached.
type Cluster struct {
	Config *rest.Config
	Gate   *credential.Gate // before the credential plugin of Config; may be nil
}

// cluster makes connections to the pods of one cluster. client-go's pieces do
// what is the same for all clients: TLS, credentials and the choice of a proxy.
type cluster struct {
	source  Cluster
	forced  Transport // Auto if it is ours to choose
	baseURL *url.URL
	config  *transport.Config
	tls     *tls.Config // without a session cache
	proxy   func(*http.Request) (*url.URL, error)
	dialTCP func(ctx context.Context, network, addr string) (net.Conn, error)

	mu             sync.Mutex
	preferred      Transport // the one that last did
	preferredSince time.Time // the other one was tried in vain
	sessions       tls.ClientSessionCache
}

func newCluster(of Cluster, forced Transport) (*cluster, error) {
	base, _, err := rest.DefaultServerUrlFor(of.Config)
	if err != nil {
		return nil, err
	}
	config, err := of.Gate.Config(of.Config)
	if err != nil {
		return nil, err
	}
	tlsConfig, err := transport.TLSConfigFor(config)
	if err != nil {
		return nil, err
	}
	if tlsConfig == nil {
		tlsConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	tlsConfig.NextProtos = []string{"http/1.1"}
	tlsConfig.DynamicRecordSizingDisabled = true // full records from the first
	c := &cluster{source: of, forced: forced, baseURL: base, config: config, tls: tlsConfig, preferred: SPDY, proxy: proxyFunc(of.Config)}
	c.dialTCP = (&net.Dialer{}).DialContext
	if of.Config.Dial != nil {
		c.dialTCP = of.Config.Dial
	}
	c.resetSessions()
	return c, nil
}

// proxyFunc returns what chooses the proxy of a request. Its error doesn't quote
// the proxy's address, which may have a password in it.
func proxyFunc(config *rest.Config) func(*http.Request) (*url.URL, error) {
	proxy := config.Proxy
	if proxy == nil {
		proxy = http.ProxyFromEnvironment
	}
	return func(req *http.Request) (*url.URL, error) {
		address, err := proxy(req)
		if err != nil {
			return nil, errors.New("the address of the proxy (HTTPS_PROXY, HTTP_PROXY) is not a valid URL")
		}
		return address, nil
	}
}

// dial makes a connection to a pod. Its errors are [fwd.UnreachedError], but
// for the end of ctx, which is its cause.
func (c *cluster) dial(ctx context.Context, pod plan.PodRef) (*upstream, error) {
	var refusals []*upgradeError
	for _, with := range c.transports() {
		u, r := c.upgrade(ctx, pod, with)
		if r == nil {
			c.prefer(with)
			return u, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		refusals = append(refusals, r)
		if r.final {
			break
		}
	}
	return nil, combine(refusals)
}

// transports returns the transports that may be tried, the first first.
func (c *cluster) transports() []Transport {
	if c.forced != Auto {
		return []Transport{c.forced}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.preferred == WebSocket && time.Since(c.preferredSince) < preferenceWindow {
		return []Transport{WebSocket, SPDY}
	}
	return []Transport{SPDY, WebSocket}
}

func (c *cluster) prefer(worked Transport) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.preferred != worked || time.Since(c.preferredSince) >= preferenceWindow {
		c.preferred, c.preferredSince = worked, time.Now()
	}
}

// tlsConfig returns what one connection's TLS is configured with.
func (c *cluster) tlsConfig() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	config := c.tls.Clone()
	config.ClientSessionCache = c.sessions
	return config
}

// resetSessions makes the next TLS handshake a full one: a session that is
// resumed is that of the client certificate that it began with.
func (c *cluster) resetSessions() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions = tls.NewLRUClientSessionCache(0)
}

// upgrade makes a connection with one transport. What the API server says 401
// to is tried once more: the credentials may have been renewed by that.
func (c *cluster) upgrade(ctx context.Context, pod plan.PodRef, with Transport) (*upstream, *upgradeError) {
	a := &upgrade{cluster: c, with: with}
	said, err := a.do(ctx, pod)
	if err == nil && said.code == http.StatusUnauthorized {
		c.resetSessions()
		a = &upgrade{cluster: c, with: with}
		said, err = a.do(ctx, pod)
	}
	switch {
	case err != nil:
		return nil, a.failure(err)
	case said.code != http.StatusSwitchingProtocols:
		return nil, said.upgradeError(pod, with)
	}
	a.bulk.handshakeDone()
	u := newUpstream(a.conn, a.bulk)
	u.readAhead = with == SPDY // WebSocket takes any error of a read as its end
	return u, nil
}
