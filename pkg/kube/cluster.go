// Package kube reads clusters: it loads contexts from the kubeconfig, watches
// Services, EndpointSlices and Ingresses as far as the user's permissions allow,
// and provides them as snapshots.
package kube

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/kubeshore/kubeshore/internal/dnsname"
	"github.com/kubeshore/kubeshore/internal/printable"
	"github.com/kubeshore/kubeshore/pkg/credential"
)

// Cluster is one context of a kubeconfig.
type Cluster struct {
	Context   string // its name in the kubeconfig
	Namespace string // its default namespace
	Config    *rest.Config
	Gate      *credential.Gate // adds the user's credentials; may be nil

	proxyURL string // from the kubeconfig
}

// same reports whether c and other have the same address, credentials and
// connection settings. The tokens of an auth-provider don't count: see
// [credential.Gate.Refresh].
func (c *Cluster) same(other *Cluster) bool {
	if other == nil || c.proxyURL != other.proxyURL {
		return false
	}
	a, b := rest.CopyConfig(c.Config), rest.CopyConfig(other.Config)
	a.Proxy, b.Proxy = nil, nil // functions never compare equal
	a.AuthConfigPersister, b.AuthConfigPersister = nil, nil
	if a.AuthProvider != nil && b.AuthProvider != nil {
		if !sameProvider(a.AuthProvider, b.AuthProvider) {
			return false
		}
		a.AuthProvider, b.AuthProvider = nil, nil
	}
	return reflect.DeepEqual(a, b)
}

// sameProvider reports whether two entries differ only in the tokens that client-go,
// in this process or in another, writes into them.
func sameProvider(a, b *clientcmdapi.AuthProviderConfig) bool {
	settings := func(c *clientcmdapi.AuthProviderConfig) map[string]string {
		fixed := maps.Clone(c.Config)
		delete(fixed, "id-token")
		delete(fixed, "refresh-token")
		return fixed
	}
	return a.Name == b.Name && maps.Equal(settings(a), settings(b))
}

// noKubeconfigError reports that none of the paths has a kubeconfig with a context.
type noKubeconfigError struct{ paths string }

func (e noKubeconfigError) Error() string {
	return "no kubeconfig with a context found at " + e.paths
}

// Hint returns advice for the user.
func (noKubeconfigError) Hint() string {
	return "set --kubeconfig or KUBECONFIG (plain sudo drops KUBECONFIG, sudo -E keeps it)"
}

// cluster returns the named context of the files that were read.
func (k *Kubeconfig) cluster(raw *clientcmdapi.Config, rules *clientcmd.ClientConfigLoadingRules, name string) (*Cluster, error) {
	if name == "" {
		name = raw.CurrentContext
	}
	if name == "" {
		return nil, fmt.Errorf("the kubeconfig has no current context; choose one with --context: %s", contextNames(raw))
	}
	if raw.Contexts[name] == nil {
		return nil, fmt.Errorf("no context %q in the kubeconfig; available: %s", name, contextNames(raw))
	}
	var access clientcmd.ConfigAccess // nil: refreshed tokens are kept in memory
	if rules != nil {
		access = rules
	}
	client := clientcmd.NewNonInteractiveClientConfig(*raw, name, &clientcmd.ConfigOverrides{}, access)
	config, err := client.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("context %s: %w", name, oneLine(err))
	}
	namespace, _, err := client.Namespace()
	if err != nil {
		return nil, fmt.Errorf("context %s: %w", name, oneLine(err))
	}
	config.UserAgent = k.userAgent
	config.QPS = -1 // a handful of watches needs no rate limit
	if config.ExecProvider != nil {
		if config.ExecProvider.PluginPolicy, err = pluginPolicy(); err != nil {
			return nil, fmt.Errorf("context %s: %w", name, err)
		}
	}
	gate, err := credential.NewGate(name, config, k.plugins)
	if err != nil {
		return nil, fmt.Errorf("context %s: %w", name, oneLine(err))
	}
	cluster := &Cluster{Context: name, Namespace: namespace, Config: config, Gate: gate}
	if entry := raw.Clusters[raw.Contexts[name].Cluster]; entry != nil {
		cluster.proxyURL = entry.ProxyURL
	}
	return cluster, nil
}

// Server returns the API server's URL for display, without a password.
func (c *Cluster) Server() string {
	address, err := url.Parse(c.Config.Host)
	if err != nil {
		return "(invalid URL)"
	}
	return address.Redacted()
}

// Label makes a DNS label (RFC 1123) of a context's name, which may be any text:
// an ARN, a URL, an email address.
func Label(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		if r < 'a' || r > 'z' {
			if r < '0' || r > '9' {
				r = '-'
			}
		}
		b.WriteRune(r)
	}
	label := strings.Trim(b.String(), "-")
	if len(label) > dnsname.MaxLabel {
		label = strings.Trim(label[len(label)-dnsname.MaxLabel:], "-") // names usually differ at the end
	}
	return cmp.Or(label, "context")
}

func contextNames(raw *clientcmdapi.Config) string {
	return strings.Join(slices.Sorted(maps.Keys(raw.Contexts)), ", ")
}

// maxErrorLength limits the errors that are shown, in runes.
const maxErrorLength = 500

// oneLine returns err as a single printable line: errors of client-go may span
// several, and quote the API server.
func oneLine(err error) error { return errors.New(printable.Line(err.Error(), maxErrorLength)) }
