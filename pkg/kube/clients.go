package kube

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/transport"

	"github.com/kubeshore/kubeshore/pkg/fwd"
)

// checkTime is how long the API server may take to answer for the first time.
const checkTime = 10 * time.Second

// clients reads the two API groups that are followed. The whole clientset of
// client-go would bring every other group's types along, in memory too.
type clients struct {
	core      rest.Interface
	discovery rest.Interface
}

func newClients(cluster *Cluster) (*clients, error) {
	config := cluster.Config
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), discoveryv1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	transportConfig, err := cluster.Gate.Config(config)
	if err != nil {
		return nil, err
	}
	roundTripper, err := transport.New(transportConfig)
	if err != nil {
		return nil, err
	}
	client := func(apiPath string, group schema.GroupVersion) (rest.Interface, error) {
		c := rest.CopyConfig(config)
		c.APIPath = apiPath
		c.GroupVersion = &group
		c.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
		c.ContentType = runtime.ContentTypeProtobuf
		c.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
		return rest.RESTClientForConfigAndClient(c, &http.Client{Transport: roundTripper, Timeout: config.Timeout})
	}
	core, err := client("/api", corev1.SchemeGroupVersion)
	if err != nil {
		return nil, err
	}
	discovery, err := client("/apis", discoveryv1.SchemeGroupVersion)
	return &clients{core: core, discovery: discovery}, err
}

const (
	services       = "services"
	endpointSlices = "endpointslices"
)

func (c *clients) services(namespace string) cache.ListerWatcher {
	return cache.NewListWatchFromClient(c.core, services, namespace, fields.Everything())
}

func (c *clients) endpointSlices(namespace string) cache.ListerWatcher {
	return cache.NewListWatchFromClient(c.discovery, endpointSlices, namespace, fields.Everything())
}

// check asks for one object of each kind in the namespace. Its error is a line
// that says what can't be had, and what to do about it.
func (c *clients) check(ctx context.Context, cluster *Cluster, namespace string) error {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	for _, of := range []struct {
		client   rest.Interface
		resource string
	}{{c.core, services}, {c.discovery, endpointSlices}} {
		err := of.client.Get().Namespace(namespace).Resource(of.resource).
			VersionedParams(&metav1.ListOptions{Limit: 1}, metav1.ParameterCodec).Do(ctx).Error()
		if apierrors.IsForbidden(err) {
			return fmt.Errorf("may not list %s in namespace %s of context %s; ask for the verbs list and watch", of.resource, namespace, cluster.Context)
		}
		if err != nil {
			return explain(err, cluster)
		}
	}
	return nil
}

// explain says in one line what is wrong with the API server.
func explain(err error, cluster *Cluster) error {
	server := cluster.Server()
	var certificate *tls.CertificateVerificationError
	var unreachable *url.Error
	var denied *fwd.UnreachedError
	var op *net.OpError
	switch {
	case errors.As(err, &denied): // by the gate; it names the context
		return denied
	case apierrors.IsForbidden(err):
		return fmt.Errorf("context %s: %w", cluster.Context, oneLine(err))
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("context %s: the API server %s does not accept the credentials; log in again, or check the user of the context", cluster.Context, server)
	case errors.As(err, &certificate):
		return fmt.Errorf("context %s: the API server %s is not the one that the kubeconfig's certificate-authority vouches for: %w", cluster.Context, server, certificate.Err)
	case errors.As(err, &op) && op.Op == "proxyconnect": // net/http's
		return fmt.Errorf("context %s: the proxy before the API server %s can't be reached: %w; see HTTPS_PROXY, NO_PROXY and the kubeconfig's proxy-url", cluster.Context, server, oneLine(op.Err))
	case errors.As(err, &unreachable):
		return fmt.Errorf("context %s: the API server %s can't be reached: %w; is it up, and is the VPN?", cluster.Context, server, oneLine(unreachable.Err))
	}
	return fmt.Errorf("context %s: %w", cluster.Context, oneLine(err))
}
