package tunnel

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"

	"github.com/kubeshore/kubeshore/internal/blocking"
	"github.com/kubeshore/kubeshore/pkg/credential"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// preferenceWindow is how long WebSocket is preferred after SPDY failed, possibly
// only temporarily.
const preferenceWindow = 10 * time.Minute

// Cluster describes how to reach a cluster's API server.
type Cluster struct {
	Config *rest.Config
	Gate   *credential.Gate // in front of the credential plugin of Config; may be nil
}

// cluster makes connections to the pods of one cluster. It uses client-go for
// TLS, credentials and the choice of a proxy.
type cluster struct {
	source  Cluster
	forced  Transport // Auto to choose automatically
	baseURL *url.URL
	config  *transport.Config
	proxy   func(*http.Request) (*url.URL, error)
	dialTCP func(ctx context.Context, network, addr string) (net.Conn, error)

	readingAuthority chan struct{} // has an element while the file is read

	mu             sync.Mutex
	tls            *tls.Config // without a session cache
	authority      []byte      // the certificate authorities of tls
	preferred      Transport   // the one that last worked
	preferredSince time.Time   // when the other one last failed
	sessions       tls.ClientSessionCache
}

func newCluster(source Cluster, forced Transport) (*cluster, error) {
	baseURL, _, err := rest.DefaultServerUrlFor(source.Config)
	if err != nil {
		return nil, err
	}
	c := &cluster{
		source: source, forced: forced, baseURL: baseURL,
		preferred: SPDY, proxy: proxyFunc(source.Config), readingAuthority: make(chan struct{}, 1),
	}
	c.dialTCP = (&net.Dialer{}).DialContext
	if source.Config.Dial != nil {
		c.dialTCP = source.Config.Dial
	}
	if c.config, c.tls, err = newTLS(source); err != nil {
		return nil, err
	}
	c.authority = c.config.TLS.CAData
	c.resetSessions()
	return c, nil
}

// newTLS returns client-go's configuration and the TLS configuration made from it.
func newTLS(source Cluster) (*transport.Config, *tls.Config, error) {
	config, err := source.Gate.Config(source.Config)
	if err != nil {
		return nil, nil, err
	}
	tlsConfig, err := transport.TLSConfigFor(config)
	if err != nil {
		return nil, nil, err
	}
	if tlsConfig == nil {
		tlsConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	tlsConfig.NextProtos = []string{"http/1.1"}
	tlsConfig.DynamicRecordSizingDisabled = true // use full records from the start
	return config, tlsConfig, nil
}

// authorityTimeout is how long a dial waits for the certificate-authority file.
const authorityTimeout = 500 * time.Millisecond

// rereadAuthority uses the kubeconfig's certificate-authority file as it is now. If it
// can't be used, e.g. while it is being written, or if its file system hangs, the previous
// one stays in force. client-go itself reads the client certificate's files for each
// handshake.
func (c *cluster) rereadAuthority(ctx context.Context) {
	path := c.source.Config.CAFile
	if path == "" || len(c.source.Config.CAData) > 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, authorityTimeout)
	defer cancel()
	select {
	case c.readingAuthority <- struct{}{}: // one goroutine at most hangs
	case <-ctx.Done():
		return
	}
	_, _ = blocking.Call(ctx, func() (struct{}, error) { // after an error the previous authority counts
		defer func() { <-c.readingAuthority }()
		return struct{}{}, c.adoptAuthority(path)
	})
}

// adoptAuthority uses the certificate authorities in a file. It may block: client-go
// reads the file too.
func (c *cluster) adoptAuthority(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	c.mu.Lock()
	same := bytes.Equal(content, c.authority)
	c.mu.Unlock()
	if same {
		return nil
	}
	_, tlsConfig, err := newTLS(c.source)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.tls, c.authority = tlsConfig, content
	c.mu.Unlock()
	c.resetSessions()
	return nil
}

// proxyFunc returns the function that chooses the proxy of a request. Its error
// doesn't quote the proxy's address, which may contain a password.
func proxyFunc(config *rest.Config) func(*http.Request) (*url.URL, error) {
	proxy := config.Proxy
	if proxy == nil {
		proxy = http.ProxyFromEnvironment
	}
	return func(req *http.Request) (*url.URL, error) {
		address, err := proxy(req)
		if err != nil {
			return nil, errors.New("the proxy address (HTTPS_PROXY, HTTP_PROXY) is not a valid URL")
		}
		return address, nil
	}
}

// dial makes a connection to a pod. It returns a [fwd.UnreachedError], or ctx's
// cause if ctx ended.
func (c *cluster) dial(ctx context.Context, pod plan.PodRef) (*upstream, error) {
	var errs []*upgradeError
	for _, with := range c.transports() {
		u, upgradeErr := c.upgrade(ctx, pod, with)
		if upgradeErr == nil {
			c.prefer(with)
			return u, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		errs = append(errs, upgradeErr)
		if upgradeErr.final {
			break
		}
	}
	return nil, combine(errs)
}

// transports returns the transports to try, in order.
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

// prefer records that a transport worked.
func (c *cluster) prefer(worked Transport) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.preferred != worked || time.Since(c.preferredSince) >= preferenceWindow {
		c.preferred, c.preferredSince = worked, time.Now()
	}
}

// tlsConfig returns the TLS configuration for one connection.
func (c *cluster) tlsConfig(ctx context.Context) *tls.Config {
	c.rereadAuthority(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	config := c.tls.Clone()
	config.ClientSessionCache = c.sessions
	return config
}

// resetSessions forces the next TLS handshake to be a full one: a resumed session
// keeps the client certificate of its first handshake.
func (c *cluster) resetSessions() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions = tls.NewLRUClientSessionCache(0)
}

// upgrade makes a connection with one transport. It retries once after a 401,
// which makes client-go renew the credentials.
func (c *cluster) upgrade(ctx context.Context, pod plan.PodRef, with Transport) (*upstream, *upgradeError) {
	attempt := &upgrade{cluster: c, with: with}
	resp, err := attempt.do(ctx, pod)
	if err == nil && resp.code == http.StatusUnauthorized {
		c.resetSessions()
		attempt = &upgrade{cluster: c, with: with}
		resp, err = attempt.do(ctx, pod)
	}
	switch {
	case err != nil:
		return nil, attempt.failure(err)
	case resp.code != http.StatusSwitchingProtocols:
		return nil, resp.asError(pod, with)
	}
	attempt.bulk.handshakeDone()
	u := newUpstream(attempt.conn, attempt.bulk)
	u.readAhead = with == SPDY // WebSocket treats every read error as final
	return u, nil
}
