package tunnel

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	gorilla "github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/kubeshore/kubeshore/pkg/plan"
)

var testPod = plan.PodRef{Context: "ctx", Namespace: "ns", Name: "pod", UID: "u"}

// apiServer is the port-forward endpoint of an API server whose pods echo, for
// both transports. Its responses can be replaced.
type apiServer struct {
	*httptest.Server
	upgraded sync.WaitGroup // upgraded requests; Server.Close doesn't wait for them

	mu       sync.Mutex
	closed   bool                           // no more upgrades
	handlers map[Transport]http.HandlerFunc // respond instead of the upgrade
	requests []Transport                    // in order
	resumed  []bool                         // for each request, whether its TLS session was resumed
}

// newAPIServer starts an apiServer. prepare may change its TLS configuration.
func newAPIServer(t *testing.T, prepare func(*httptest.Server)) *apiServer {
	t.Helper()
	s := &apiServer{handlers: make(map[Transport]http.HandlerFunc)}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // many errors are expected
	if prepare != nil {
		prepare(s.Server)
	}
	s.StartTLS()
	t.Cleanup(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.CloseClientConnections()
		s.Close()
		s.upgraded.Wait()
	})
	return s
}

// config returns a client configuration for the server, without credentials.
func (s *apiServer) config() *rest.Config {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	return &rest.Config{Host: s.URL, TLSClientConfig: rest.TLSClientConfig{CAData: ca}}
}

// respond sets the handler for requests with a transport. nil upgrades.
func (s *apiServer) respond(with Transport, handler http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handlers[with] = handler
}

// takeRequests returns the transports requested since the last call.
func (s *apiServer) takeRequests() []Transport {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests := s.requests
	s.requests = nil
	return requests
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	with := SPDY
	if gorilla.IsWebSocketUpgrade(r) {
		with = WebSocket
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.upgraded.Add(1)
	defer s.upgraded.Done()
	s.requests = append(s.requests, with)
	s.resumed = append(s.resumed, r.TLS.DidResume)
	handler := s.handlers[with]
	s.mu.Unlock()
	if handler != nil {
		handler(w, r)
		return
	}
	echoes := &echoStreams{}
	var conn httpstream.Connection
	if with == WebSocket {
		upgrader := gorilla.Upgrader{Subprotocols: []string{"SPDY/3.1+portforward.k8s.io"}}
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		if conn, err = spdy.NewServerConnection(portforward.NewTunnelingConnection("server", ws), echoes.add); err != nil {
			return
		}
	} else {
		if _, err := httpstream.Handshake(r, w, []string{"portforward.k8s.io"}); err != nil {
			return
		}
		if conn = spdy.NewResponseUpgrader().UpgradeResponse(w, r, echoes.add); conn == nil {
			return
		}
	}
	<-conn.CloseChan()
	_ = conn.Close()
	echoes.running.Wait()
}

// echoStreams echoes on the streams of one connection.
type echoStreams struct {
	running  sync.WaitGroup
	mu       sync.Mutex
	unpaired map[string]httpstream.Stream // by request ID
}

func (e *echoStreams) add(s httpstream.Stream, _ <-chan struct{}) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	id := s.Headers().Get(corev1.PortForwardRequestIDHeader)
	other := e.unpaired[id]
	if other == nil {
		if e.unpaired == nil {
			e.unpaired = make(map[string]httpstream.Stream)
		}
		e.unpaired[id] = s
		return nil
	}
	data, errStream := s, other
	if data.Headers().Get(corev1.StreamType) == corev1.StreamTypeError {
		data, errStream = other, s
	}
	e.running.Go(func() {
		_, _ = io.Copy(data, data)
		_, _ = data.Close(), errStream.Close()
	})
	return nil
}

func newTestCluster(t *testing.T, config *rest.Config, with Transport) *cluster {
	t.Helper()
	c, err := newCluster(Cluster{Config: config}, with)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// exchange makes a connection and checks that a pod echoes on it.
func exchange(ctx context.Context, c *cluster) error {
	u, err := c.dial(ctx, testPod)
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = u.read()
	}()
	defer func() {
		u.fail(errUpstreamClosed)
		<-ended
	}()
	s, err := u.open(8080)
	if err != nil {
		return err
	}
	_, err = io.WriteString(s, "hello")
	err = errors.Join(err, s.CloseWrite())
	got, readErr := io.ReadAll(s)
	if err = errors.Join(err, readErr); err == nil && string(got) != "hello" {
		err = fmt.Errorf("got reply %q, want \"hello\"", got)
	}
	return err
}

// mustExchange calls exchange and compares the requested transports.
func mustExchange(t *testing.T, c *cluster, s *apiServer, want ...Transport) {
	t.Helper()
	if err := exchange(t.Context(), c); err != nil {
		t.Error(err)
	}
	if got := s.takeRequests(); !slices.Equal(got, want) {
		t.Errorf("got requests for %v, want %v", got, want)
	}
}
