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

// behave is what a pod does with a forwarded connection: it has the two
// streams, and the connection that they belong to.
type behave func(data, faults httpstream.Stream, conn httpstream.Connection)

// cluster runs an API server's port-forward endpoint, made of the upstream
// library's server side, over TLS. It returns a dialer for it.
func cluster(t *testing.T, pod behave) *tunnel.Dialer {
	t.Helper()
	var upgraded sync.WaitGroup // the server doesn't wait for these
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
				t.Errorf("a stream for port %q", s.Headers().Get(corev1.PortHeader))
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
					pod(pair[corev1.StreamTypeData], pair[corev1.StreamTypeError], conn)
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

// run returns a dialer that runs as long as the test.
func run(t *testing.T, config *rest.Config) *tunnel.Dialer {
	t.Helper()
	d := tunnel.New(func(context string) (tunnel.Cluster, bool) { return tunnel.Cluster{Config: config}, context == "c" }, tunnel.SPDY)
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

// end ends both streams in good order, as the kubelet does.
func end(data, faults httpstream.Stream) {
	_ = data.Close()
	_ = faults.Close()
}

func TestStreamEchoes(t *testing.T) {
	s := dial(t, cluster(t, func(data, faults httpstream.Stream, _ httpstream.Connection) {
		_, _ = io.Copy(data, data)
		end(data, faults)
	}))
	sent := strings.Repeat("hello, pod ", 100_000)
	go func() {
		_, _ = io.WriteString(s, sent)
		_ = s.CloseWrite()
	}()
	if got, err := io.ReadAll(s); string(got) != sent || err != nil {
		t.Errorf("%d bytes came back, %v; want %d", len(got), err, len(sent))
	}
}

func TestStreamFaults(t *testing.T) {
	const refused = "dial tcp4 127.0.0.1:8080: connect: connection refused"
	for name, c := range map[string]struct {
		pod  behave
		want string
	}{
		"a newer runtime's pod refuses": {func(data, faults httpstream.Stream, _ httpstream.Connection) {
			_, _ = io.WriteString(faults, refused)
			_, _ = data.Reset(), faults.Reset()
		}, "nothing listens on port 8080"},
		"and the end of the bytes comes first": {func(data, faults httpstream.Stream, _ httpstream.Connection) {
			_ = data.Close()
			_, _ = io.WriteString(faults, refused)
			_, _ = data.Reset(), faults.Reset()
		}, "nothing listens on port 8080"},
		"a newer runtime's pod resets": {func(data, faults httpstream.Stream, _ httpstream.Connection) {
			_, _ = io.WriteString(faults, "read tcp4 127.0.0.1:1->127.0.0.1:8080: read: connection reset by peer")
			_, _ = data.Reset(), faults.Reset()
		}, "the process in the pod reset the connection"},
		"the pod refuses": {func(data, faults httpstream.Stream, _ httpstream.Connection) {
			_ = data.Close() // the end of the bytes comes first, the reason after it
			_, _ = io.WriteString(faults, refused)
			_ = faults.Close()
		}, "nothing listens on port 8080"},
	} {
		t.Run(name, func(t *testing.T) {
			d := cluster(t, c.pod)
			for range 20 {
				s := dial(t, d)
				_, _ = io.WriteString(s, "hello") // the stream may have ended by then
				_, err := s.Read(make([]byte, 1))
				if err == nil || errors.Is(err, io.EOF) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("Read says %v, want %q and not the end", err, c.want)
				}
			}
		})
	}
}

func TestLostConnection(t *testing.T) {
	s := dial(t, cluster(t, func(_, _ httpstream.Stream, conn httpstream.Connection) { _ = conn.Close() }))
	if _, err := s.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) || !strings.Contains(err.Error(), "reset the stream") {
		t.Errorf("Read says %v, want that the stream was reset", err)
	}
}

func TestStreamCloseIsNoticedByThePod(t *testing.T) {
	noticed := make(chan struct{})
	s := dial(t, cluster(t, func(data, _ httpstream.Stream, _ httpstream.Connection) {
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
		t.Error("the pod never notices")
	}
	if _, err := s.Read(make([]byte, 1)); err == nil {
		t.Error("it can still be read")
	}
}

func TestDialFaults(t *testing.T) {
	d := cluster(t, func(httpstream.Stream, httpstream.Stream, httpstream.Connection) {})
	other := pod
	other.Name = "other"
	if _, err := d.Dial(t.Context(), other, 8080); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("a pod that is not there: %v", err)
	}
	other.Context = "unknown"
	if _, err := d.Dial(t.Context(), other, 8080); err == nil || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("a context that is not there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Dial(ctx, pod, 8080); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of ctx: %v", err)
	}
}
