// Package tunnel opens byte streams to ports of pods, through the API server
// and the kubelet: the port-forward subresource (KEP-4006 describes the
// protocol).
package tunnel

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/kubeshore/kubeshore/pkg/fwd"
)

// Dialer opens streams to the pods of some clusters. It is a fwd.Dialer. Each
// stream has a connection to the API server of its own, so that nothing that
// happens to one is felt by another.
type Dialer struct {
	clusters map[string]*rest.Config
}

// New returns a dialer for the clusters given, by the name of their context.
func New(clusters map[string]*rest.Config) *Dialer { return &Dialer{clusters: clusters} }

// Dial opens a stream to a port of a pod. The API server takes the stream
// before the pod is asked: that nothing listens there is what Read then says.
// ctx bounds the dial, not the stream.
func (d *Dialer) Dial(ctx context.Context, pod fwd.PodRef, port uint16) (fwd.Stream, error) {
	config, ok := d.clusters[pod.Context]
	if !ok {
		return nil, fmt.Errorf("no cluster of the context %s", pod.Context)
	}
	conn, err := upgrade(ctx, config, pod)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx) // the transport's words for it differ
		}
		return nil, err
	}
	// The connection knows nothing of ctx: end it when ctx ends too soon.
	cancelled := context.AfterFunc(ctx, func() { _ = conn.Close() })
	s, err := open(conn, port)
	if !cancelled() && err == nil {
		_ = s.Close()
		return nil, context.Cause(ctx)
	}
	return s, err
}

// upgrade asks the API server for a connection to the pod.
func upgrade(ctx context.Context, config *rest.Config, pod fwd.PodRef) (httpstream.Connection, error) {
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		return nil, err
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, err
	}
	target := base.JoinPath("api", "v1", "namespaces", pod.Namespace, "pods", pod.Name, "portforward")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), nil)
	if err != nil {
		return nil, err
	}
	conn, protocol, err := spdy.NegotiateStreaming(upgrader, &http.Client{Transport: transport}, req, portforward.PortForwardProtocolV1Name)
	if err != nil {
		return nil, err
	}
	if protocol != portforward.PortForwardProtocolV1Name {
		_ = conn.Close()
		return nil, fmt.Errorf("the API server speaks %q, not %s", protocol, portforward.PortForwardProtocolV1Name)
	}
	return conn, nil
}

// open makes the two streams that one forwarded connection has: one for the
// bytes, one on which the kubelet says what went wrong.
func open(conn httpstream.Connection, port uint16) (*stream, error) {
	headers := http.Header{}
	headers.Set(corev1.PortHeader, strconv.Itoa(int(port)))
	headers.Set(corev1.PortForwardRequestIDHeader, "0")
	create := func(kind string) (httpstream.Stream, error) {
		headers.Set(corev1.StreamType, kind)
		return conn.CreateStream(headers)
	}
	faults, err := create(corev1.StreamTypeError)
	if err == nil {
		err = faults.Close() // we have nothing to say on it
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("open the error stream: %w", err)
	}
	data, err := create(corev1.StreamTypeData)
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("open the data stream: %w", err)
	}
	return newStream(conn, data, faults), nil
}
