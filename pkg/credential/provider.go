package credential

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"

	"k8s.io/client-go/rest"

	// The providers of client-go: oidc, and errors that name the successors of gcp
	// and azure.
	_ "k8s.io/client-go/plugin/pkg/client/auth"

	"github.com/kubeshore/kubeshore/internal/printable"
	"github.com/kubeshore/kubeshore/pkg/fwd"
)

// provider is the auth-provider of a context's user.
type provider struct {
	context string
	name    string
	host    string

	mu        sync.Mutex
	read      map[string]string // the configuration as last read from the kubeconfig
	config    map[string]string // the same with the tokens that were refreshed since
	current   rest.AuthProvider
	persister rest.AuthProviderConfigPersister // nil if the kubeconfig can't be written, e.g. a pipe
}

func newProvider(contextName string, config *rest.Config) (*provider, error) {
	p := &provider{context: contextName, name: config.AuthProvider.Name, host: config.Host}
	return p, p.use(config)
}

// providers counts the providers of the process.
var providers atomic.Int64

// use replaces the provider's configuration. client-go caches providers by host, so
// each one gets another host, of which it makes no other use: the tokens of the
// cached one would be used forever.
func (p *provider) use(config *rest.Config) error {
	entry := *config.AuthProvider
	entry.Config = maps.Clone(entry.Config)
	current, err := rest.GetAuthProvider(fmt.Sprintf("%s#%d", p.host, providers.Add(1)), &entry, p)
	if err != nil {
		return fmt.Errorf("auth-provider %s: %w", printable.Line(entry.Name, maxQuote), err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.read, p.config = config.AuthProvider.Config, config.AuthProvider.Config
	p.current, p.persister = current, config.AuthConfigPersister
	return nil
}

// Persist implements rest.AuthProviderConfigPersister: client-go calls it with
// refreshed tokens. Those for a kubeconfig that can't be written are kept in memory.
func (p *provider) Persist(config map[string]string) error {
	p.mu.Lock()
	p.config = maps.Clone(config) // before the write, whose event is then recognized
	persister := p.persister
	p.mu.Unlock()
	if persister == nil {
		return nil
	}
	if err := persister.Persist(config); err != nil {
		return err
	}
	p.mu.Lock()
	p.read = maps.Clone(config)
	p.mu.Unlock()
	return nil
}

// Refresh adopts the tokens of a newer kubeconfig entry whose auth-provider has the
// same name, unless this process has written them itself, or has read them before: a
// pipe's content never changes, and an identity provider may accept a refresh token only
// once.
func (g *Gate) Refresh(config *rest.Config) error {
	if g == nil || g.provider == nil || config.AuthProvider == nil {
		return nil
	}
	g.provider.mu.Lock()
	known := maps.Equal(g.provider.config, config.AuthProvider.Config) || maps.Equal(g.provider.read, config.AuthProvider.Config)
	g.provider.mu.Unlock()
	if known {
		return nil
	}
	return g.provider.use(config)
}

// providedTransport adds the provider's credentials to requests.
type providedTransport struct {
	provider *provider
	next     http.RoundTripper
}

func (t *providedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.provider.mu.Lock()
	current := t.provider.current
	t.provider.mu.Unlock()
	sent := false
	resp, err := current.WrapTransport(roundTripper(func(req *http.Request) (*http.Response, error) {
		sent = true
		return t.next.RoundTrip(req)
	})).RoundTrip(req)
	if err != nil && !sent {
		closeBody(req)
		return nil, &fwd.UnreachedError{Reason: fwd.Denied, Err: errors.New(printable.Line(fmt.Sprintf(
			"context %s: auth-provider %s: %v; log in again", t.provider.context, t.provider.name, err), 3*maxQuote))}
	}
	return resp, err
}

// WrappedRoundTripper lets client-go find the transport's TLS configuration.
func (t *providedTransport) WrappedRoundTripper() http.RoundTripper { return t.next }

// roundTripper is a function as an http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
