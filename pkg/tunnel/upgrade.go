package tunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	gorilla "github.com/gorilla/websocket"
	apiportforward "k8s.io/apimachinery/pkg/util/portforward"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/kubeshore/kubeshore/internal/dnsname"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

const (
	// upgradeTimeout bounds an upgrade with one transport, from the TCP
	// connection to the response.
	upgradeTimeout = 15 * time.Second
	// maxBodySize bounds the part of a response's body that is read.
	maxBodySize = 64 << 10
)

// errUpgradeTimeout reports that an upgrade took too long.
var errUpgradeTimeout = fmt.Errorf("no response within %v", upgradeTimeout)

// upgrade is an http.RoundTripper for one upgrade request, below those that add
// the credentials. It keeps the request's connection. It returns a response other
// than 101 as a response, not as an error, because the credential plugin's round
// tripper must see a 401. The upgrade ends with the request's context, or after
// upgradeTimeout, which excludes the time that a credential plugin takes.
type upgrade struct {
	cluster     *cluster
	with        Transport
	requestSent atomic.Bool // at least in part; TCP, proxy and TLS succeeded

	// The following fields are set after RoundTrip has returned a 101.
	conn net.Conn
	bulk *bulkConn // below conn
	stop func() bool
}

// invalidPodError reports a pod that no API server can have.
type invalidPodError struct{ pod plan.PodRef }

func (e invalidPodError) Error() string {
	return fmt.Sprintf("invalid pod %q in namespace %q", e.pod.Name, e.pod.Namespace)
}

// portForwardURL returns the URL of a pod's port-forward below an API server's
// URL, whose path it keeps: behind a path, a proxy may serve several clusters. The
// names must be DNS names. Others are refused rather than escaped, because proxies
// may unescape a path and resolve its "..", as url.JoinPath does.
func portForwardURL(base *url.URL, pod plan.PodRef) (*url.URL, error) {
	if !dnsname.IsLabel(pod.Namespace) || !dnsname.IsName(pod.Name) {
		return nil, invalidPodError{pod}
	}
	target := *base
	suffix := "/api/v1/namespaces/" + pod.Namespace + "/pods/" + pod.Name + "/portforward" // needs no escapes
	target.Path = strings.TrimRight(base.Path, "/") + suffix
	if base.RawPath != "" {
		target.RawPath = strings.TrimRight(base.RawPath, "/") + suffix
	}
	return &target, nil
}

// do sends the request with the user's credentials and returns the response.
func (u *upgrade) do(ctx context.Context, pod plan.PodRef) (upgradeResponse, error) {
	method := http.MethodPost
	if u.with == WebSocket {
		method = http.MethodGet // RFC 6455, 4.1
	}
	target, err := portForwardURL(u.cluster.baseURL, pod)
	if err != nil {
		return upgradeResponse{}, err
	}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), nil)
	if err != nil {
		return upgradeResponse{}, err
	}
	authorized, err := transport.HTTPWrappersForConfig(u.cluster.config, u)
	if err != nil {
		return upgradeResponse{}, err
	}
	resp, err := authorized.RoundTrip(req)
	if err != nil {
		return upgradeResponse{}, err
	}
	defer resp.Body.Close()
	mediaType, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	body, err := io.ReadAll(resp.Body)
	return upgradeResponse{code: resp.StatusCode, status: resp.Status, mediaType: mediaType, body: body}, err
}

// RoundTrip sends the upgrade request and returns the response.
func (u *upgrade) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeoutCause(req.Context(), upgradeTimeout, errUpgradeTimeout)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { u.requestSent.Store(true) }})
	roundTrip := u.spdy
	if u.with == WebSocket {
		roundTrip = u.websocket
	}
	resp, err := roundTrip(ctx, req.Clone(ctx))
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx) // err is a consequence of it
	case err != nil:
		return nil, err
	case resp.StatusCode != http.StatusSwitchingProtocols:
		return bufferBody(resp), nil
	case !u.stop():
		_ = u.conn.Close()
		return nil, context.Cause(ctx)
	}
	return resp, nil
}

// bufferBody reads the body into memory, because the connection is closed next.
func bufferBody(resp *http.Response) *http.Response {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxBodySize)) // the status matters more than a complete body
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp
}

// dialTCP connects to the API server or to a proxy. Until stop is called, the end
// of ctx breaks the connection.
func (u *upgrade) dialTCP(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := u.cluster.dialTCP(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	u.bulk = newBulkConn(conn)
	u.stop = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return u.bulk, nil
}

// spdy requests an upgrade to SPDY/3.1. It uses net/http's transport, which
// supports upgrades and all kinds of proxies.
func (u *upgrade) spdy(ctx context.Context, req *http.Request) (*http.Response, error) {
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", spdy.HeaderSpdy31)
	req.Header.Set("X-Stream-Protocol-Version", portforward.PortForwardProtocolV1Name)
	once := &http.Transport{
		Proxy:           u.cluster.proxy,
		TLSClientConfig: u.cluster.tlsConfig(ctx),
		// The transport passes a context that outlives the request, for connections
		// that it may reuse.
		DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
			return u.dialTCP(ctx, network, addr)
		},
		DisableKeepAlives:  true,
		DisableCompression: true,
	}
	resp, err := once.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return resp, err
	}
	rwc, ok := resp.Body.(io.ReadWriteCloser)
	if protocol := resp.Header.Get("X-Stream-Protocol-Version"); !ok || protocol != portforward.PortForwardProtocolV1Name {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("the server upgraded to %q with %q instead of %s with %s", resp.Header.Get("Upgrade"), protocol,
			spdy.HeaderSpdy31, portforward.PortForwardProtocolV1Name)
	}
	u.conn = &upgradedConn{Conn: u.bulk, stream: rwc}
	resp.Body = http.NoBody
	return resp, nil
}

// upgradedConn is a connection after the upgrade: the net.Conn below TLS, with
// the reads, writes and Close of the upgraded stream.
type upgradedConn struct {
	net.Conn
	stream io.ReadWriteCloser
}

func (c *upgradedConn) Read(p []byte) (int, error)  { return c.stream.Read(p) }
func (c *upgradedConn) Write(p []byte) (int, error) { return c.stream.Write(p) }
func (c *upgradedConn) Close() error                { return c.stream.Close() }

// webSocketBuffers holds gorilla's write buffers, which are needed only during
// writes.
var webSocketBuffers sync.Pool

// websocket requests an upgrade to SPDY/3.1 inside WebSocket. It uses the same
// dialer as client-go's round tripper, but not that round tripper: that one turns
// a 401 into an error before client-go's credential plugin can see it.
func (u *upgrade) websocket(ctx context.Context, req *http.Request) (resp *http.Response, err error) {
	protocol := apiportforward.WebsocketsSPDYTunnelingPrefix + portforward.PortForwardProtocolV1Name
	dialer := gorilla.Dialer{
		Proxy:           u.cluster.proxy,
		TLSClientConfig: u.cluster.tlsConfig(ctx),
		NetDialContext:  u.dialTCP,
		Subprotocols:    []string{protocol},
		ReadBufferSize:  readSize,
		WriteBufferPool: &webSocketBuffers,
		WriteBufferSize: frameSize, // one WebSocket frame per message
	}
	defer func() {
		// The dialer panics if a proxy's status line has no text.
		if recover() != nil {
			resp, err = nil, errors.New("the proxy refused the connection")
		}
	}()
	target := *req.URL
	target.Scheme = map[string]string{"http": "ws", "https": "wss"}[target.Scheme]
	conn, resp, err := dialer.DialContext(ctx, target.String(), req.Header)
	if errors.Is(err, gorilla.ErrBadHandshake) && resp.StatusCode != http.StatusSwitchingProtocols {
		return resp, nil
	}
	if err != nil {
		return nil, err
	}
	if conn.Subprotocol() != protocol {
		_ = conn.Close()
		return nil, fmt.Errorf("the server upgraded to WebSocket with %q instead of %s", conn.Subprotocol(), protocol)
	}
	u.conn = portforward.NewTunnelingConnection("kubeshore", conn)
	return resp, nil
}
