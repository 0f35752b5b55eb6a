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
	"strings"
	"sync"
	"sync/atomic"
	"time"

	gorilla "github.com/gorilla/websocket"
	apiportforward "k8s.io/apimachinery/pkg/util/portforward"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/kubeshore/kubeshore/pkg/plan"
)

const (
	// upgradeTimeout bounds one try of one transport to reach a pod's port-forward
	// endpoint, from the TCP connection to the answer.
	upgradeTimeout = 15 * time.Second
	// maxBodySize is how much is read of an answer that isn't the upgrade.
	maxBodySize = 64 << 10
)

// errUpgradeTimeout is what becomes of an attempt that takes too long.
var errUpgradeTimeout = fmt.Errorf("no answer within %v", upgradeTimeout)

// upgrade is an http.RoundTripper for one request for an upgrade, at the bottom
// of those that have the credentials. It keeps the connection that the request
// went over. An answer that isn't the upgrade is an answer, not an error: the
// credentials' keeper must see a 401. The end of the request's context ends all
// of it, and so does upgradeTimeout, which doesn't count a credential plugin's time.
type upgrade struct {
	cluster     *cluster
	with        Transport
	requestSent atomic.Bool // the request, at least in part: what TCP, a proxy and TLS have to say is said

	// What follows is set once RoundTrip has returned 101.
	conn net.Conn
	bulk *bulkConn // below conn
	stop func() bool
}

// do sends the request, with the user's credentials, and returns the answer.
func (a *upgrade) do(ctx context.Context, pod plan.PodRef) (response, error) {
	method := http.MethodPost
	if a.with == WebSocket {
		method = http.MethodGet // RFC 6455, 4.1
	}
	target := a.cluster.baseURL.JoinPath("api", "v1", "namespaces", pod.Namespace, "pods", pod.Name, "portforward")
	req, err := http.NewRequestWithContext(ctx, method, target.String(), nil)
	if err != nil {
		return response{}, err
	}
	authorized, err := transport.HTTPWrappersForConfig(a.cluster.config, a)
	if err != nil {
		return response{}, err
	}
	resp, err := authorized.RoundTrip(req)
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	body, err := io.ReadAll(resp.Body)
	return response{code: resp.StatusCode, status: resp.Status, mediaType: kind, body: body}, err
}

func (a *upgrade) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeoutCause(req.Context(), upgradeTimeout, errUpgradeTimeout)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { a.requestSent.Store(true) }})
	send := a.spdy
	if a.with == WebSocket {
		send = a.websocket
	}
	resp, err := send(ctx, req.Clone(ctx))
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		return bufferBody(resp), nil
	}
	if err == nil && !a.stop() {
		_ = a.conn.Close()
		err = context.Cause(ctx)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // all else is what came of it
	}
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// bufferBody reads an answer's body into memory, as its connection won't last.
func bufferBody(resp *http.Response) *http.Response {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxBodySize)) // the status says most of it
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp
}

// dialTCP makes the connection to the API server or to a proxy. It breaks when
// ctx ends, until stop is called.
func (a *upgrade) dialTCP(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := a.cluster.dialTCP(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	a.bulk = newBulkConn(conn)
	a.stop = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return a.bulk, nil
}

// spdy asks for SPDY/3.1. net/http has a transport for upgrades, which knows
// all kinds of proxies.
func (a *upgrade) spdy(ctx context.Context, req *http.Request) (*http.Response, error) {
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", spdy.HeaderSpdy31)
	req.Header.Set("X-Stream-Protocol-Version", portforward.PortForwardProtocolV1Name)
	once := &http.Transport{
		Proxy:           a.cluster.proxy,
		TLSClientConfig: a.cluster.tlsConfig(),
		// The transport's own context is one for connections that others may use.
		DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
			return a.dialTCP(ctx, network, addr)
		},
		DisableKeepAlives:  true,
		DisableCompression: true,
	}
	resp, err := once.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return resp, err
	}
	stream, ok := resp.Body.(io.ReadWriteCloser)
	if protocol := resp.Header.Get("X-Stream-Protocol-Version"); !ok || protocol != portforward.PortForwardProtocolV1Name {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("it upgrades to %q with %q, not to %s with %s", resp.Header.Get("Upgrade"), protocol,
			spdy.HeaderSpdy31, portforward.PortForwardProtocolV1Name)
	}
	a.conn = &upgradedConn{Conn: a.bulk, stream: stream}
	resp.Body = http.NoBody
	return resp, nil
}

// upgradedConn is a connection after the upgrade: what is below it, with the
// stream in place of its bytes.
type upgradedConn struct {
	net.Conn
	stream io.ReadWriteCloser
}

func (u *upgradedConn) Read(p []byte) (int, error)  { return u.stream.Read(p) }
func (u *upgradedConn) Write(p []byte) (int, error) { return u.stream.Write(p) }
func (u *upgradedConn) Close() error                { return u.stream.Close() }

// writeBuffers has gorilla's, which are needed only while something is written.
var writeBuffers sync.Pool

// websocket asks for SPDY/3.1 inside WebSocket. It uses what client-go's own
// round tripper uses, and not that one, which makes an error of a 401 before
// client-go's credentials can see it.
func (a *upgrade) websocket(ctx context.Context, req *http.Request) (resp *http.Response, err error) {
	protocol := apiportforward.WebsocketsSPDYTunnelingPrefix + portforward.PortForwardProtocolV1Name
	dialer := gorilla.Dialer{
		Proxy:           a.cluster.proxy,
		TLSClientConfig: a.cluster.tlsConfig(),
		NetDialContext:  a.dialTCP,
		Subprotocols:    []string{protocol},
		ReadBufferSize:  readSize,
		WriteBufferPool: &writeBuffers,
		WriteBufferSize: frameSize, // a frame of a message
	}
	defer func() {
		// The dialer panics where a proxy answers with a status and no words.
		if recover() != nil {
			resp, err = nil, errors.New("the proxy refuses the connection")
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
		return nil, fmt.Errorf("it upgrades to WebSocket with %q, not %s", conn.Subprotocol(), protocol)
	}
	a.conn = portforward.NewTunnelingConnection("kubeshore", conn)
	return resp, nil
}
