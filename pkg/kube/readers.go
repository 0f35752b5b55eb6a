package kube

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
)

const (
	// tcpConnectTimeout limits a TCP connection attempt to the API server. After
	// an outage a new attempt gets through sooner than TCP's own retransmission.
	tcpConnectTimeout = 5 * time.Second
	// getTimeout limits a request for one object.
	getTimeout = 10 * time.Second
)

// clients are REST clients for the API groups that are watched. A full client-go
// clientset would load the types of every other group too.
type clients struct {
	core, discovery, networking rest.Interface
	transport                   http.RoundTripper
}

func newClients(cluster *Cluster) (*clients, error) {
	config := rest.CopyConfig(cluster.Config)
	if config.Dial == nil {
		config.Dial = (&net.Dialer{Timeout: tcpConnectTimeout}).DialContext
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme, networkingv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	transportConfig, err := cluster.Gate.Config(config)
	if err != nil {
		return nil, err
	}
	c := &clients{}
	if c.transport, err = transport.New(transportConfig); err != nil {
		return nil, err
	}
	for _, group := range []struct {
		client  *rest.Interface
		path    string
		version schema.GroupVersion
	}{
		{&c.core, "/api", corev1.SchemeGroupVersion},
		{&c.discovery, "/apis", discoveryv1.SchemeGroupVersion},
		{&c.networking, "/apis", networkingv1.SchemeGroupVersion},
	} {
		groupConfig := rest.CopyConfig(config)
		groupConfig.APIPath = group.path
		groupConfig.GroupVersion = &group.version
		groupConfig.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
		groupConfig.ContentType = runtime.ContentTypeProtobuf
		groupConfig.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
		*group.client, err = rest.RESTClientForConfigAndClient(groupConfig, &http.Client{
			Transport: errorCapture{bounded{c.transport, maxResponseSize}}, Timeout: config.Timeout, CheckRedirect: refuseRedirect,
		})
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

// refuseRedirect is the CheckRedirect of clients. An API server redirects no reads, and
// the credentials and the path of a cluster are for that cluster alone.
func refuseRedirect(req *http.Request, _ []*http.Request) error {
	return fmt.Errorf("it redirects to %s, which is not followed", req.URL.Redacted())
}

// close closes idle connections.
func (c *clients) close() { utilnet.CloseIdleConnectionsFor(c.transport) }

// collection reads the objects of one resource in one namespace, or in all.
type collection struct {
	client         rest.Interface
	resource       string
	namespace      string // empty: all namespaces
	labels, fields string // selectors
	context        string // the kubeconfig's
}

func (c collection) request(options metav1.ListOptions) *rest.Request {
	options.LabelSelector, options.FieldSelector = c.labels, c.fields
	// The feed retries, and reports why. client-go would retry ten times silently.
	return c.client.Get().Namespace(c.namespace).Resource(c.resource).VersionedParams(&options, metav1.ParameterCodec).MaxRetries(0)
}

func (c collection) list(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	return c.request(options).Do(ctx).Get()
}

func (c collection) watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	var captured error
	w, err := c.request(options).Watch(context.WithValue(ctx, capturedErrorKey{}, &captured))
	if err == nil && captured != nil {
		w.Stop()
		return nil, captured
	}
	return w, err
}

func (c collection) check(object metav1.Object) error {
	if err := checkNames(object, c.namespace); err != nil {
		return fmt.Errorf("context %s: ignoring one of the %s that the API server sent: %w", c.context, c.resource, err)
	}
	return nil
}

func (c collection) denial(verb string) denial {
	return denial{verb: verb, resource: c.resource, namespace: c.namespace, context: c.context}
}

func (collection) missing() []denial { return nil }

// errorCapture is a transport that stores a request's error where the context
// asks for it. client-go turns the timeout or connection error of a watch request
// into a watch that has ended without events.
type errorCapture struct{ http.RoundTripper }

// capturedErrorKey is the context key of the *error to store an error in.
type capturedErrorKey struct{}

func (e errorCapture) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := e.RoundTripper.RoundTrip(req)
	if captured, ok := req.Context().Value(capturedErrorKey{}).(*error); ok && err != nil {
		*captured = &url.Error{Op: req.Method, URL: req.URL.Redacted(), Err: err}
	}
	return resp, err
}

// namedServices reads Services one by one, which requires only the permission to
// get them.
type namedServices struct {
	collection
	names []string

	mu     sync.Mutex
	denied []denial // the Services missing from the last list
}

func (s *namedServices) list(ctx context.Context, _ metav1.ListOptions) (runtime.Object, error) {
	list := &corev1.ServiceList{}
	var denied []denial
	var lastDenial error
	for _, name := range s.names {
		var service corev1.Service
		limited, cancel := context.WithTimeout(ctx, getTimeout)
		err := s.client.Get().Namespace(s.namespace).Resource(s.resource).Name(name).Do(limited).Into(&service)
		cancel()
		switch {
		case err == nil:
			list.Items = append(list.Items, service)
		case apierrors.IsForbidden(err):
			lastDenial = err
			denied = append(denied, denial{verb: "get", resource: s.resource + "/" + name, namespace: s.namespace, context: s.context})
		case !apierrors.IsNotFound(err):
			return nil, err
		}
	}
	if lastDenial != nil && len(denied) == len(s.names) {
		return nil, lastDenial
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied = denied
	return list, nil
}

func (s *namedServices) missing() []denial {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.denied
}

func (s *namedServices) watch(context.Context, metav1.ListOptions) (watch.Interface, error) {
	return nil, errNoWatch
}

func (s *namedServices) denial(string) denial { return s.collection.denial("get") }
