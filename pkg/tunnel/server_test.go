package tunnel

import (
	"context"
	"encoding/pem"
	"errors"
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

// apiServer is the port-forward endpoint of an API server whose pods send back
// what they are sent, for both transports. What it answers can be changed.
type apiServer struct {
	*httptest.Server
	upgraded sync.WaitGroup // what the server doesn't wait for

	mu      sync.Mutex
	ended   bool                           // nothing is upgraded any more
	answers map[Transport]http.HandlerFunc // instead of the upgrade
	asked   []Transport                    // in the order of the requests
	resumed []bool                         // of each request, whether its TLS session was resumed
}

// newAPIServer starts one; prepare may change its TLS configuration.
func newAPIServer(t *testing.T, prepare func(*httptest.Server)) *apiServer {
	t.Helper()
	s := &apiServer{answers: make(map[Transport]http.HandlerFunc)}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // what is meant to fail
	if prepare != nil {
		prepare(s.Server)
	}
	s.StartTLS()
	t.Cleanup(func() {
		s.mu.Lock()
		s.ended = true
		s.mu.Unlock()
		s.CloseClientConnections()
		s.Close()
		s.upgraded.Wait()
	})
	return s
}

// config is how the server is reached, by a user whom nobody asks who it is.
func (s *apiServer) config() *rest.Config {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	return &rest.Config{Host: s.URL, TLSClientConfig: rest.TLSClientConfig{CAData: ca}}
}

// answer makes the server answer the requests for a transport; nil upgrades.
func (s *apiServer) answer(with Transport, how http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[with] = how
}

// requests returns the transports that were asked for since the last call.
func (s *apiServer) requests() []Transport {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	with := SPDY
	if gorilla.IsWebSocketUpgrade(r) {
		with = WebSocket
	}
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return
	}
	s.upgraded.Add(1)
	defer s.upgraded.Done()
	s.asked = append(s.asked, with)
	s.resumed = append(s.resumed, r.TLS.DidResume)
	how := s.answers[with]
	s.mu.Unlock()
	if how != nil {
		how(w, r)
		return
	}
	pairs := &pairs{}
	var conn httpstream.Connection
	if with == WebSocket {
		upgrader := gorilla.Upgrader{Subprotocols: []string{"SPDY/3.1+portforward.k8s.io"}}
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		if conn, err = spdy.NewServerConnection(portforward.NewTunnelingConnection("server", ws), pairs.add); err != nil {
			return
		}
	} else {
		if _, err := httpstream.Handshake(r, w, []string{"portforward.k8s.io"}); err != nil {
			return
		}
		if conn = spdy.NewResponseUpgrader().UpgradeResponse(w, r, pairs.add); conn == nil {
			return
		}
	}
	<-conn.CloseChan()
	_ = conn.Close()
	pairs.running.Wait()
}

// pairs echoes on the streams of one connection.
type pairs struct {
	running sync.WaitGroup
	mu      sync.Mutex
	half    map[string]httpstream.Stream // the first of two to come
}

func (p *pairs) add(s httpstream.Stream, _ <-chan struct{}) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := s.Headers().Get(corev1.PortForwardRequestIDHeader)
	other := p.half[id]
	if other == nil {
		if p.half == nil {
			p.half = make(map[string]httpstream.Stream)
		}
		p.half[id] = s
		return nil
	}
	data, faults := s, other
	if data.Headers().Get(corev1.StreamType) == corev1.StreamTypeError {
		data, faults = other, s
	}
	p.running.Go(func() {
		_, _ = io.Copy(data, data)
		_, _ = data.Close(), faults.Close()
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

// exchange makes a connection and has a pod send something back on it.
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
		err = errors.New("the pod says " + string(got))
	}
	return err
}

// mustExchange does, and compares what the server was asked for.
func mustExchange(t *testing.T, c *cluster, s *apiServer, want ...Transport) {
	t.Helper()
	if err := exchange(t.Context(), c); err != nil {
		t.Error(err)
	}
	if got := s.requests(); !slices.Equal(got, want) {
		t.Errorf("the server was asked for %v, want %v", got, want)
	}
}
