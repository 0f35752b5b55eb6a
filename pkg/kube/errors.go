package kube

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kubeshore/kubeshore/pkg/fwd"
)

// wrongPathError reports that the server doesn't serve what every API server serves.
type wrongPathError struct{ context, server string }

func (e wrongPathError) Error() string {
	return fmt.Sprintf("context %s: no Kubernetes API at %s (404 Not Found); check the path in the kubeconfig's server", e.context, e.server)
}

// describeError returns an error of a request to the API server as one line for the user.
func describeError(err error, cluster *Cluster) error {
	server := cluster.Server()
	var certificate *tls.CertificateVerificationError
	var request *url.Error
	var plugin *fwd.UnreachedError
	var op *net.OpError
	switch {
	case errors.As(err, &plugin): // from the gate, with the context's name
		return plugin.Err
	case apierrors.IsNotFound(err): // see feed.denied
		return wrongPathError{cluster.Context, server}
	case apierrors.IsForbidden(err):
		return fmt.Errorf("context %s: %w", cluster.Context, oneLine(err))
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("context %s: API server %s rejected the credentials; log in again, or check the context's user", cluster.Context, server)
	case errors.As(err, &certificate):
		return fmt.Errorf("context %s: the certificate of API server %s isn't trusted by the kubeconfig's certificate-authority: %w", cluster.Context, server, oneLine(certificate.Err))
	case errors.As(err, &op) && op.Op == "proxyconnect": // net/http's
		return fmt.Errorf("context %s: cannot reach the proxy for API server %s: %w; check HTTPS_PROXY, NO_PROXY and the kubeconfig's proxy-url", cluster.Context, server, oneLine(op.Err))
	case errors.As(err, &request):
		return fmt.Errorf("context %s: cannot reach API server %s: %w; is the cluster up, and are you on the VPN?", cluster.Context, server, oneLine(request.Err))
	}
	return fmt.Errorf("context %s: %w", cluster.Context, oneLine(err))
}
