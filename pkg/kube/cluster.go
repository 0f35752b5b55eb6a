// Package kube reads clusters: it finds them by kubeconfig, says what may not be
// read there, and follows Services and EndpointSlices as snapshots for fwd.
package kube

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
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
	Gate      *credential.Gate // before the credential plugin of Config; may be nil

	proxy string // Config's, as the kubeconfig has it
}

// same tells whether two are reached and asked in the same way.
func (c *Cluster) same(other *Cluster) bool {
	if other == nil || c.proxy != other.proxy {
		return false
	}
	a, b := rest.CopyConfig(c.Config), rest.CopyConfig(other.Config)
	a.Proxy, b.Proxy = nil, nil // functions are never the same
	return reflect.DeepEqual(a, b)
}

// missingError is that there is no kubeconfig with a context at any of the paths.
type missingError struct{ paths string }

func (e missingError) Error() string {
	return fmt.Sprintf("no kubeconfig with a context at %s; name one by --kubeconfig or KUBECONFIG (plain sudo drops KUBECONFIG: sudo -E keeps it)", e.paths)
}

// Load finds the named context, or the current one if the name is empty, in
// the given kubeconfig, or where kubectl would look if that is empty. It
// doesn't connect. userAgent is what the API server is told.
func Load(kubeconfig, context, userAgent string) (*Cluster, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	raw, err := rules.Load()
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && len(raw.Contexts) == 0:
		return nil, missingError{strings.Join(rules.GetLoadingPrecedence(), ", ")}
	case err != nil:
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	if context == "" {
		context = raw.CurrentContext
	}
	if context == "" {
		return nil, fmt.Errorf("the kubeconfig has no current context; choose one by --context: %s", contexts(raw))
	}
	if raw.Contexts[context] == nil {
		return nil, fmt.Errorf("the kubeconfig has no context %q; it has: %s", context, contexts(raw))
	}
	client := clientcmd.NewNonInteractiveClientConfig(*raw, context, &clientcmd.ConfigOverrides{}, rules)
	config, err := client.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("context %s: %w", context, oneLine(err))
	}
	namespace, _, err := client.Namespace()
	if err != nil {
		return nil, fmt.Errorf("context %s: %w", context, oneLine(err))
	}
	config.UserAgent = userAgent
	config.QPS = -1 // a handful of watches needs no throttling
	cluster := &Cluster{Context: context, Namespace: namespace, Config: config, Gate: credential.NewGate(context)}
	if of := raw.Clusters[raw.Contexts[context].Cluster]; of != nil {
		cluster.proxy = of.ProxyURL
	}
	return cluster, nil
}

// Server returns the API server's address as a user may read it: without a
// password that the kubeconfig has in it.
func (c *Cluster) Server() string {
	address, err := url.Parse(c.Config.Host)
	if err != nil {
		return "of the kubeconfig"
	}
	return address.Redacted()
}

// Files returns the paths of the kubeconfig files that Load reads, whether they
// are there or not.
func Files(kubeconfig string) []string {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	return rules.GetLoadingPrecedence()
}

// Label makes a DNS label (RFC 1123) of a context's name, which may be anything:
// an ARN, a URL, a mail address.
func Label(context string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(context) {
		if r < 'a' || r > 'z' {
			if r < '0' || r > '9' {
				r = '-'
			}
		}
		b.WriteRune(r)
	}
	label := strings.Trim(b.String(), "-")
	if len(label) > dnsname.MaxLabel {
		label = strings.Trim(label[len(label)-dnsname.MaxLabel:], "-") // what tells contexts apart is at the end, as a rule
	}
	return cmp.Or(label, "context")
}

func contexts(raw *clientcmdapi.Config) string {
	return strings.Join(slices.Sorted(maps.Keys(raw.Contexts)), ", ")
}

// maxErrorLength bounds the errors that are shown, in runes.
const maxErrorLength = 500

// oneLine returns an error of client-go as a single printable line: it may span
// several, and quote the API server.
func oneLine(err error) error { return errors.New(printable.Line(err.Error(), maxErrorLength)) }
