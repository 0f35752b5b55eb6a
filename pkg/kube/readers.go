package kube

import (
	"context"
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
	// connectTime is how long a TCP connection to the API server may take; when
	// the network is back another try is sooner there than TCP's own.
	connectTime = 5 * time.Second
	// answerTime is how long the API server may take for one object.
	answerTime = 10 * time.Second
)

// clients read the API groups that are followed. The whole clientset of
// client-go would bring every other group's types along, in memory too.
type clients struct {
	core, discovery, networking rest.Interface
	transport                   http.RoundTripper
}

func newClients(cluster *Cluster) (*clients, error) {
	config := rest.CopyConfig(cluster.Config)
	if config.Dial == nil {
		config.Dial = (&net.Dialer{Timeout: connectTime}).DialContext
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
	for _, of := range []struct {
		client *rest.Interface
		path   string
		group  schema.GroupVersion
	}{
		{&c.core, "/api", corev1.SchemeGroupVersion},
		{&c.discovery, "/apis", discoveryv1.SchemeGroupVersion},
		{&c.networking, "/apis", networkingv1.SchemeGroupVersion},
	} {
		conf := rest.CopyConfig(config)
		conf.APIPath = of.path
		conf.GroupVersion = &of.group
		conf.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
		conf.ContentType = runtime.ContentTypeProtobuf
		conf.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
		*of.client, err = rest.RESTClientForConfigAndClient(conf, &http.Client{Transport: frank{c.transport}, Timeout: config.Timeout})
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

// close lets go of the connections that nobody uses any more.
func (c *clients) close() { utilnet.CloseIdleConnectionsFor(c.transport) }

// collection reads a kind of object of one namespace, or of all.
type collection struct {
	client         rest.Interface
	resource       string
	namespace      string // empty: all
	labels, fields string // selectors
	context        string // the kubeconfig's
}

func (c collection) request(options metav1.ListOptions) *rest.Request {
	options.LabelSelector, options.FieldSelector = c.labels, c.fields
	// Who asks tries again, and says so: client-go would try ten times in silence.
	return c.client.Get().Namespace(c.namespace).Resource(c.resource).VersionedParams(&options, metav1.ParameterCodec).MaxRetries(0)
}

func (c collection) list(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	return c.request(options).Do(ctx).Get()
}

func (c collection) watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	var unanswered error
	w, err := c.request(options).Watch(context.WithValue(ctx, unansweredKey{}, &unanswered))
	if err == nil && unanswered != nil {
		w.Stop()
		return nil, unanswered
	}
	return w, err
}

// frank is a transport that tells why a request wasn't answered: of a watch that
// timed out or was broken off client-go makes one that has just ended.
type frank struct{ http.RoundTripper }

// unansweredKey is that of a *error in a request's context.
type unansweredKey struct{}

func (f frank) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := f.RoundTripper.RoundTrip(req)
	if unanswered, ok := req.Context().Value(unansweredKey{}).(*error); ok && err != nil {
		*unanswered = &url.Error{Op: req.Method, URL: req.URL.Redacted(), Err: err}
	}
	return resp, err
}

func (c collection) denied(verb string) denial {
	return denial{verb: verb, resource: c.resource, namespace: c.namespace, context: c.context}
}

func (collection) missing() []denial { return nil }

// some reads Services by their names, which takes the right to get them.
type some struct {
	collection
	names []string

	mu     sync.Mutex
	absent []denial // the Services that the last list lacks
}

func (s *some) list(ctx context.Context, _ metav1.ListOptions) (runtime.Object, error) {
	list := &corev1.ServiceList{}
	var absent []denial
	var denied error
	for _, name := range s.names {
		var service corev1.Service
		limited, cancel := context.WithTimeout(ctx, answerTime)
		err := s.client.Get().Namespace(s.namespace).Resource(s.resource).Name(name).Do(limited).Into(&service)
		cancel()
		switch {
		case err == nil:
			list.Items = append(list.Items, service)
		case apierrors.IsForbidden(err):
			denied = err
			absent = append(absent, denial{verb: "get", resource: s.resource + "/" + name, namespace: s.namespace, context: s.context})
		case !apierrors.IsNotFound(err):
			return nil, err
		}
	}
	if denied != nil && len(absent) == len(s.names) {
		return nil, denied
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.absent = absent
	return list, nil
}

func (s *some) missing() []denial {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.absent
}

func (s *some) watch(context.Context, metav1.ListOptions) (watch.Interface, error) {
	return nil, errNoWatch
}

func (s *some) denied(string) denial {
	return s.collection.denied("get")
}
