package tunnel

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/kubeshore/kubeshore/pkg/fwd"
)

// dialTime bounds one try to reach a pod's port-forward endpoint.
const dialTime = 15 * time.Second

// cluster makes connections to the pods of one cluster. client-go's pieces do
// what is the same for all clients: TLS, credentials and proxies.
type cluster struct {
	config *rest.Config
	base   *url.URL
	tls    *tls.Config // nil for a server without TLS
	proxy  func(*http.Request) (*url.URL, error)
}

func newCluster(config *rest.Config) (*cluster, error) {
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, err
	}
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, err
	}
	if base.Scheme == "https" {
		if tlsConfig == nil {
			tlsConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		tlsConfig = tlsConfig.Clone()
		tlsConfig.ClientSessionCache = tls.NewLRUClientSessionCache(0)
		tlsConfig.DynamicRecordSizingDisabled = true // full records from the first
	}
	proxy := config.Proxy
	if proxy == nil {
		proxy = http.ProxyFromEnvironment
	}
	return &cluster{config: config, base: base, tls: tlsConfig, proxy: proxy}, nil
}

// dial makes a connection to a pod.
func (c *cluster) dial(ctx context.Context, pod fwd.PodRef) (*upstream, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	target := c.base.JoinPath("api", "v1", "namespaces", pod.Namespace, "pods", pod.Name, "portforward")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", spdy.HeaderSpdy31)
	req.Header.Set("X-Stream-Protocol-Version", portforward.PortForwardProtocolV1Name)
	up := &upgrade{cluster: c}
	authorized, err := rest.HTTPWrappersForConfig(c.config, up)
	if err != nil {
		return nil, err
	}
	resp, err := authorized.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if err := accepted(resp); err != nil {
		_ = up.conn.Close()
		return nil, err
	}
	return newUpstream(up.conn, up.bulk), nil
}

// upgrade is an http.RoundTripper for one request, which keeps the connection
// that the request went over.
type upgrade struct {
	cluster *cluster
	conn    net.Conn  // once RoundTrip has succeeded
	bulk    *bulkConn // below conn; nil where a proxy is in between
}

func (u *upgrade) RoundTrip(req *http.Request) (*http.Response, error) {
	config := spdy.RoundTripperConfig{TLS: u.cluster.tls, Proxier: u.cluster.proxy}
	if proxy, err := u.cluster.proxy(req); err == nil && proxy == nil {
		config = spdy.RoundTripperConfig{UpgradeTransport: &http.Transport{TLSClientConfig: u.cluster.tls, DialContext: u.dialTCP}}
	}
	dialer, err := spdy.NewRoundTripperWithConfig(config)
	if err != nil {
		return nil, err
	}
	conn, err := dialer.Dial(req)
	if err != nil {
		return nil, err
	}
	ended := context.AfterFunc(req.Context(), func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, req)
	if !ended() {
		err = errors.Join(context.Cause(req.Context()), err)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	u.conn = &readAhead{Conn: conn, in: in}
	return resp, nil
}

func (u *upgrade) dialTCP(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	dial := d.DialContext
	if u.cluster.config.Dial != nil {
		dial = u.cluster.config.Dial
	}
	conn, err := dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	u.bulk = newBulkConn(conn)
	return u.bulk, nil
}

// readAhead is a connection some bytes of which were read together with the
// HTTP response.
type readAhead struct {
	net.Conn
	in *bufio.Reader // nil when it is empty
}

func (r *readAhead) Read(p []byte) (int, error) {
	if r.in == nil {
		return r.Conn.Read(p)
	}
	if r.in.Buffered() == 0 {
		r.in = nil
		return r.Conn.Read(p)
	}
	return r.in.Read(p[:min(len(p), r.in.Buffered())])
}

// accepted is nil if the response is the upgrade that was asked for.
func accepted(resp *http.Response) error {
	if resp.StatusCode == http.StatusSwitchingProtocols {
		if protocol := resp.Header.Get("X-Stream-Protocol-Version"); protocol != portforward.PortForwardProtocolV1Name {
			return fmt.Errorf("the API server speaks %q, not %s", protocol, portforward.PortForwardProtocolV1Name)
		}
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	_ = resp.Body.Close()
	var status metav1.Status
	if err == nil && json.Unmarshal(body, &status) == nil && status.Message != "" {
		return &apierrors.StatusError{ErrStatus: status}
	}
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	return fmt.Errorf("the API server, or what stands before it, answers the upgrade with %s (%s)", resp.Status, kind)
}
