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

// explain says in one line what is wrong with the API server.
func explain(err error, cluster *Cluster) error {
	server := cluster.Server()
	var certificate *tls.CertificateVerificationError
	var unreachable *url.Error
	var denied *fwd.UnreachedError
	var op *net.OpError
	switch {
	case errors.As(err, &denied): // by the gate; it names the context
		return oneLine(denied)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("context %s: %w", cluster.Context, oneLine(err))
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("context %s: the API server %s does not accept the credentials; log in again, or check the user of the context", cluster.Context, server)
	case errors.As(err, &certificate):
		return fmt.Errorf("context %s: the API server %s is not the one that the kubeconfig's certificate-authority vouches for: %w", cluster.Context, server, oneLine(certificate.Err))
	case errors.As(err, &op) && op.Op == "proxyconnect": // net/http's
		return fmt.Errorf("context %s: the proxy before the API server %s can't be reached: %w; see HTTPS_PROXY, NO_PROXY and the kubeconfig's proxy-url", cluster.Context, server, oneLine(op.Err))
	case errors.As(err, &unreachable):
		return fmt.Errorf("context %s: the API server %s can't be reached: %w; is it up, and is the VPN?", cluster.Context, server, oneLine(unreachable.Err))
	}
	return fmt.Errorf("context %s: %w", cluster.Context, oneLine(err))
}
