package tunnel_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/plan"
	"github.com/kubeshore/kubeshore/pkg/tunnel"
)

var pod = plan.PodRef{Context: "c", Namespace: "ns", Name: "pod", UID: "u"}

// podFunc is a pod's behavior on a forwarded connection: it gets the two streams
// and the connection that they belong to.
type podFunc func(data, errStream httpstream.Stream, conn httpstream.Connection)

// newCluster runs an API server's port-forward endpoint over TLS, based on
// moby/spdystream. It returns a Dialer for it.
func newCluster(t *testing.T, handle podFunc) *tunnel.Dialer {
	t.Helper()
	var upgraded sync.WaitGroup // server.Close doesn't wait for these
	t.Cleanup(upgraded.Wait)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		upgraded.Add(1)
		defer upgraded.Done()
		if r.URL.Path != "/api/v1/namespaces/ns/pods/pod/portforward" || r.Header.Get("Authorization") != "Bearer secret" {
			http.Error(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"pods \"pod\" not found","reason":"NotFound","code":404}`, http.StatusNotFound)
			return
		}
		if _, err := httpstream.Handshake(r, w, []string{"portforward.k8s.io"}); err != nil {
			return
		}
		var mu sync.Mutex
		var running sync.WaitGroup
		pairs := make(map[string]map[string]httpstream.Stream) // by request id and stream type
		var conn httpstream.Connection
		ready := make(chan struct{})
		conn = spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, _ <-chan struct{}) error {
			if s.Headers().Get(corev1.PortHeader) != "8080" {
				t.Errorf("got a stream for port %q, want 8080", s.Headers().Get(corev1.PortHeader))
			}
			id := s.Headers().Get(corev1.PortForwardRequestIDHeader)
			mu.Lock()
			defer mu.Unlock()
			if pairs[id] == nil {
				pairs[id] = make(map[string]httpstream.Stream)
			}
			pairs[id][s.Headers().Get(corev1.StreamType)] = s
			if pair := pairs[id]; len(pair) == 2 {
				running.Go(func() {
					<-ready
					handle(pair[corev1.StreamTypeData], pair[corev1.StreamTypeError], conn)
				})
			}
			return nil
		})
		if conn == nil {
			return
		}
		close(ready)
		<-conn.CloseChan()
		_ = conn.Close()
		running.Wait()
	}))
	t.Cleanup(server.Close)
	return run(t, &rest.Config{
		Host: server.URL, BearerToken: "secret", TLSClientConfig: rest.TLSClientConfig{Insecure: true},
	})
}

// run returns a Dialer that runs until the end of the test.
func run(t *testing.T, config *rest.Config) *tunnel.Dialer {
	t.Helper()
	d := tunnel.New(func(name string) (tunnel.Cluster, bool) { return tunnel.Cluster{Config: config}, name == "c" }, tunnel.SPDY)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return d
}

func dial(t *testing.T, d *tunnel.Dialer) fwd.Stream {
	t.Helper()
	s, err := d.Dial(t.Context(), pod, 8080)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// end ends both streams in order, like the kubelet.
func end(data, errStream httpstream.Stream) {
	_ = data.Close()
	_ = errStream.Close()
}

func TestStreamEchoes(t *testing.T) {
	s := dial(t, newCluster(t, func(data, errStream httpstream.Stream, _ httpstream.Connection) {
		_, _ = io.Copy(data, data)
		end(data, errStream)
	}))
	sent := strings.Repeat("hello, pod ", 100_000)
	go func() {
		_, _ = io.WriteString(s, sent)
		_ = s.CloseWrite()
	}()
	if got, err := io.ReadAll(s); string(got) != sent || err != nil {
		t.Errorf("got %d bytes and error %v, want %d bytes", len(got), err, len(sent))
	}
}

func TestStreamErrors(t *testing.T) {
	const refused = "dial tcp4 127.0.0.1:8080: connect: connection refused"
	for name, c := range map[string]struct {
		pod  podFunc
		want string
	}{
		"connection refused, newer runtime": {func(data, errStream httpstream.Stream, _ httpstream.Connection) {
			_, _ = io.WriteString(errStream, refused)
			_, _ = data.Reset(), errStream.Reset()
		}, "nothing listens on port 8080"},
		"connection refused, newer runtime, data ends first": {func(data, errStream httpstream.Stream, _ httpstream.Connection) {
			_ = data.Close()
			_, _ = io.WriteString(errStream, refused)
			_, _ = data.Reset(), errStream.Reset()
		}, "nothing listens on port 8080"},
		"connection reset, newer runtime": {func(data, errStream httpstream.Stream, _ httpstream.Connection) {
			_, _ = io.WriteString(errStream, "read tcp4 127.0.0.1:1->127.0.0.1:8080: read: connection reset by peer")
			_, _ = data.Reset(), errStream.Reset()
		}, "the process in the pod reset the connection"},
		"connection refused": {func(data, errStream httpstream.Stream, _ httpstream.Connection) {
			_ = data.Close() // before the reason
			_, _ = io.WriteString(errStream, refused)
			_ = errStream.Close()
		}, "nothing listens on port 8080"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newCluster(t, c.pod)
			for range 20 {
				s := dial(t, d)
				_, _ = io.WriteString(s, "hello") // may fail if the stream has ended
				_, err := s.Read(make([]byte, 1))
				if err == nil || errors.Is(err, io.EOF) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want an error with %q other than io.EOF", err, c.want)
				}
			}
		})
	}
}

func TestReadReportsResetStream(t *testing.T) {
	s := dial(t, newCluster(t, func(_, _ httpstream.Stream, conn httpstream.Connection) { _ = conn.Close() }))
	if _, err := s.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) || !strings.Contains(err.Error(), "reset the stream") {
		t.Errorf("got %v, want an error with \"reset the stream\"", err)
	}
}

func TestCloseEndsConnectionInPod(t *testing.T) {
	noticed := make(chan struct{})
	s := dial(t, newCluster(t, func(data, _ httpstream.Stream, _ httpstream.Connection) {
		_, _ = io.Copy(io.Discard, data)
		close(noticed)
	}))
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	select {
	case <-noticed:
	case <-time.After(10 * time.Second):
		t.Error("got an open connection in the pod 10s after Close, want it closed")
	}
	if _, err := s.Read(make([]byte, 1)); err == nil {
		t.Error("got no error from Read after Close")
	}
}

func TestDialErrors(t *testing.T) {
	d := newCluster(t, func(httpstream.Stream, httpstream.Stream, httpstream.Connection) {})
	other := pod
	other.Name = "other"
	if _, err := d.Dial(t.Context(), other, 8080); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("missing pod: got error %v, want \"not found\"", err)
	}
	other.Context = "unknown"
	if _, err := d.Dial(t.Context(), other, 8080); err == nil || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("unknown context: got error %v, want one with the context's name", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Dial(ctx, pod, 8080); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of ctx: got error %v, want %v", err, context.Canceled)
	}
}
