package credential

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"k8s.io/client-go/pkg/apis/clientauthentication"
	execplugin "k8s.io/client-go/plugin/pkg/client/auth/exec"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
	"k8s.io/client-go/util/connrotation"

	"github.com/kubeshore/kubeshore/pkg/fwd"
)

// Gate adds the credentials of a context's user to requests, if they come from a
// credential plugin or an auth-provider. All clients of a cluster share one Gate. A
// nil Gate leaves everything to client-go.
type Gate struct {
	context  string
	plugin   *plugin   // nil if there is none
	provider *provider // nil if there is none
	getCert  *transport.GetCertHolder
}

// NewGate returns a Gate for a context. It fails if the kubeconfig's user entry is
// invalid.
func NewGate(contextName string, config *rest.Config, plugins *Plugins) (*Gate, error) {
	g := &Gate{context: contextName}
	switch {
	case config.ExecProvider != nil && config.AuthProvider != nil:
		return nil, errors.New("a user can't have both exec and auth-provider")
	case config.AuthProvider != nil:
		var err error
		g.provider, err = newProvider(contextName, config)
		return g, err
	case config.ExecProvider == nil:
		return g, nil
	}
	if _, err := versionOf(config.ExecProvider); err != nil {
		return nil, err
	}
	if err := execplugin.ValidatePluginPolicy(config.ExecProvider.PluginPolicy); err != nil {
		return nil, fmt.Errorf("kuberc: %w", err)
	}
	var cluster *clientauthentication.Cluster
	if config.ExecProvider.ProvideClusterInfo {
		var err error
		if cluster, err = rest.ConfigToExecCluster(config); err != nil {
			return nil, err
		}
	}
	var err error
	if g.plugin, err = plugins.get(contextName, config.Host, config.ExecProvider, cluster); err != nil {
		return nil, err
	}
	g.getCert = &transport.GetCertHolder{GetCert: g.plugin.certificate}
	return g, nil
}

// Config returns config.TransportConfig, with the credentials of the Gate.
func (g *Gate) Config(config *rest.Config) (*transport.Config, error) {
	if g == nil || g.plugin == nil && g.provider == nil {
		return config.TransportConfig()
	}
	bare := rest.CopyConfig(config)
	bare.ExecProvider, bare.AuthProvider = nil, nil
	conf, err := bare.TransportConfig()
	if err != nil {
		return nil, err
	}
	if g.provider != nil {
		conf.Wrap(func(next http.RoundTripper) http.RoundTripper { return &providedTransport{g.provider, next} })
		return conf, nil
	}
	if conf.HasTokenAuth() || conf.HasBasicAuth() || conf.HasCertAuth() { // which client-go prefers
		return conf, nil
	}
	conf.Wrap(func(next http.RoundTripper) http.RoundTripper { return &gatedTransport{g, next} })
	conf.TLS.GetCertHolder = g.getCert
	if conf.DialHolder != nil {
		conf.DialHolder = &transport.DialHolder{Dial: connrotation.NewDialerWithTracker(conf.DialHolder.Dial, g.plugin.conns).DialContext}
	}
	return conf, nil
}

// HasPlugin reports whether the credentials come from a plugin.
func (g *Gate) HasPlugin() bool { return g != nil && g.plugin != nil }

// LogIn runs the plugin if there is no valid credential. It waits as long as that
// takes, or until ctx ends.
func (g *Gate) LogIn(ctx context.Context) error {
	if !g.HasPlugin() {
		return nil
	}
	_, _, err := g.get(ctx)
	return err
}

// Credential returns the plugin's credential, if there is a valid one.
func (g *Gate) Credential() (status Status, ok bool) {
	if !g.HasPlugin() {
		return Status{}, false
	}
	c, ok := g.plugin.peek()
	if !ok {
		return Status{}, false
	}
	return c.status, true
}

// Use replaces the plugin's credential with one that it returned to another process.
func (g *Gate) Use(status Status) error {
	if !g.HasPlugin() {
		return fmt.Errorf("context %s has no credential plugin", g.context)
	}
	c, err := newCredential(status)
	switch {
	case err != nil:
		return fmt.Errorf("credential plugin %s: %w", g.plugin.name, err)
	case c.expired():
		return fmt.Errorf("credential plugin %s: its credential expired at %s", g.plugin.name, c.status.Expires.Format(time.DateTime))
	}
	g.plugin.set(c)
	return nil
}

// Waiting reports whether the plugin is running, or waits for another one. text
// describes that if it takes long.
func (g *Gate) Waiting() (text string, waiting bool) {
	if !g.HasPlugin() {
		return "", false
	}
	p := g.plugin
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.run == nil:
		return "", false
	case p.run.long && p.run.interactive:
		return fmt.Sprintf("context %s: waiting for credential plugin %s, which has kubeshore's terminal", g.context, p.name), true
	case p.run.long:
		return fmt.Sprintf("context %s: waiting for credential plugin %s; to run it in a terminal: kubeshore login %s", g.context, p.name, quote(g.context)), true
	}
	return "", true
}

// get returns the plugin's credential, or a [fwd.UnreachedError].
func (g *Gate) get(ctx context.Context) (*credential, int, error) {
	c, generation, err := g.plugin.get(ctx)
	if failed := new(Error); errors.As(err, &failed) {
		ours := *failed
		ours.Context = g.context
		err = &fwd.UnreachedError{Reason: fwd.Denied, Err: &ours}
	}
	return c, generation, err
}

// gatedTransport adds the plugin's credentials to requests.
type gatedTransport struct {
	gate *Gate
	next http.RoundTripper
}

func (t *gatedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Header.Get("Authorization") != "" {
		return t.next.RoundTrip(req)
	}
	c, generation, err := t.gate.get(req.Context())
	if err != nil {
		closeBody(req)
		return nil, err
	}
	if c.status.Token != "" {
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", "Bearer "+c.status.Token)
	}
	resp, err := t.next.RoundTrip(req)
	switch {
	case err != nil:
	case resp.StatusCode == http.StatusUnauthorized:
		t.gate.plugin.rejected(req.Context(), generation)
	default:
		t.gate.plugin.accepted(generation)
	}
	return resp, err
}

// WrappedRoundTripper lets client-go find the transport's TLS configuration.
func (t *gatedTransport) WrappedRoundTripper() http.RoundTripper { return t.next }

// closeBody closes the body of a request that isn't sent, as an http.RoundTripper
// must.
func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}
