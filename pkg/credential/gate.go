// Package credential limits how often the credential plugin of a kubeconfig runs
// when it fails: each run may open a browser window.
package credential

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"

	"github.com/kubeshore/kubeshore/internal/backoff"
	"github.com/kubeshore/kubeshore/pkg/fwd"
)

// After a failure the plugin isn't run for minPluginInterval. The interval doubles
// with each failure in a row, up to maxPluginInterval.
const (
	minPluginInterval = 30 * time.Second
	maxPluginInterval = 10 * time.Minute
)

// rejectedText is the reason for a failure if the credentials were renewed and the
// API server still responds with 401. It also stands for a plugin that fails after
// a 401: client-go then keeps the old credentials, and only logs the failure.
const rejectedText = "the API server rejects its credentials"

// Gate stands between the requests to one cluster and the credential plugin of its
// user. One request at a time asks client-go for credentials, which runs the
// plugin if it has no valid ones. After a failure all requests fail with the same
// [fwd.UnreachedError] until a delay is over. All clients of a cluster share one
// Gate.
type Gate struct {
	context string
	sem     chan struct{} // full while a request asks client-go

	mu         sync.Mutex
	generation int   // of the credentials: how often they were renewed or given up
	suspect    bool  // they were renewed after a 401, and not accepted since
	failure    error // the last one; requests get it until retryAt
	retryAt    time.Time
	delay      backoff.Backoff // before the next run
}

// NewGate returns a Gate for the named context.
func NewGate(contextName string) *Gate {
	return &Gate{
		context: contextName, sem: make(chan struct{}, 1),
		delay: backoff.Backoff{Min: minPluginInterval, Max: maxPluginInterval},
	}
}

// Config returns config.TransportConfig, with the Gate in front of the credential
// plugin, if there is one. It doesn't change how client-go handles TLS client
// certificates of a plugin. A nil Gate lets every request through.
func (g *Gate) Config(config *rest.Config) (*transport.Config, error) {
	conf, err := config.TransportConfig()
	if err != nil || g == nil || !conf.HasCertCallback() { // only plugins have the callback
		return conf, err
	}
	plugin := conf.WrapTransport
	conf.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
		if config.WrapTransport != nil {
			next = config.WrapTransport(next)
		}
		return &gatedTransport{gate: g, plugin: plugin, next: next}
	}
	return conf, nil
}

// gatedTransport adds the plugin's credentials to requests.
type gatedTransport struct {
	gate   *Gate
	plugin transport.WrapperFunc // client-go's, which runs the plugin
	next   http.RoundTripper
}

func (t *gatedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	authorization, generation, err := t.gate.credentials(req.Context(), t.plugin)
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	if authorization != "" {
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", authorization)
	}
	resp, err := t.next.RoundTrip(req)
	switch {
	case err != nil:
	case resp.StatusCode == http.StatusUnauthorized:
		t.gate.rejected(req.Context(), t.plugin, generation)
	default:
		t.gate.accepted(generation)
	}
	return resp, err
}

// WrappedRoundTripper lets client-go find the transport's TLS configuration.
func (t *gatedTransport) WrappedRoundTripper() http.RoundTripper { return t.next }

// credentials returns the Authorization header for a request, and the generation
// of the credentials. The header is empty if the plugin provides certificates.
func (g *Gate) credentials(ctx context.Context, plugin transport.WrapperFunc) (authorization string, generation int, err error) {
	if err := g.acquire(ctx); err != nil {
		return "", 0, err
	}
	if err := g.lastFailure(); err != nil {
		g.release()
		return "", 0, err
	}
	authorization, completed, err := g.probe(ctx, plugin, http.StatusOK)
	if !completed {
		return "", 0, err
	}
	defer g.release()
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		// client-go appends several lines of advice.
		reason, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "getting credentials: "), "\n")
		return "", 0, g.failLocked(reason)
	}
	return authorization, g.generation, nil
}

// rejected handles a 401 in response to credentials of the given generation: it
// renews them or, if they were just renewed, starts a delay.
func (g *Gate) rejected(ctx context.Context, plugin transport.WrapperFunc, generation int) {
	if g.acquire(ctx) != nil {
		return
	}
	g.mu.Lock()
	renew := g.generation == generation && !g.suspect
	if g.generation == generation {
		g.generation++
		g.suspect = renew
		if !renew {
			_ = g.failLocked(rejectedText)
		}
	}
	g.mu.Unlock()
	if !renew {
		g.release()
		return
	}
	// A 401 makes client-go run the plugin. If the plugin fails, client-go only logs
	// that, and the next request gets a 401 too.
	if _, completed, _ := g.probe(ctx, plugin, http.StatusUnauthorized); completed {
		g.release()
	}
}

// accepted records that credentials of the given generation are valid.
func (g *Gate) accepted(generation int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.generation == generation {
		g.suspect = false
		g.delay.Reset()
	}
}

// lastFailure returns the last failure until its delay is over.
func (g *Gate) lastFailure() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failure != nil && time.Now().Before(g.retryAt) {
		return g.failure
	}
	return nil
}

// failLocked records a failure, and returns it as an error. g.mu must be held.
func (g *Gate) failLocked(reason string) error {
	g.retryAt = time.Now().Add(g.delay.Next())
	g.failure = &fwd.UnreachedError{Reason: fwd.Denied, Err: fmt.Errorf(
		"context %s: credential plugin failed: %s; next attempt after %s; log in again, or run the plugin by hand to see why",
		g.context, reason, g.retryAt.Format(time.TimeOnly),
	)}
	return g.failure
}

// acquire waits until no other request asks client-go.
func (g *Gate) acquire(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case g.sem <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *Gate) release() { <-g.sem }

// probe makes client-go add credentials to a request that isn't sent, and answers
// it with the given status. Nothing can stop a running plugin: if ctx ends first,
// probe returns with completed = false, and releases g when the plugin exits.
// Otherwise the caller must release g.
func (g *Gate) probe(ctx context.Context, plugin transport.WrapperFunc, status int) (authorization string, completed bool, err error) {
	type result struct {
		authorization string
		err           error
	}
	done, abandoned := make(chan result), make(chan struct{})
	go func() {
		authorization, err := probe(context.WithoutCancel(ctx), plugin, status)
		select {
		case done <- result{authorization, err}:
		case <-abandoned:
			g.release()
		}
	}()
	select {
	case r := <-done:
		return r.authorization, true, r.err
	case <-ctx.Done():
		close(abandoned)
		return "", false, context.Cause(ctx)
	}
}

func probe(ctx context.Context, plugin transport.WrapperFunc, status int) (authorization string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	if err != nil {
		return "", err
	}
	resp, err := plugin(echoTransport(status)).RoundTrip(req)
	if err != nil {
		return "", err
	}
	return resp.Header.Get("Authorization"), resp.Body.Close()
}

// echoTransport responds with a status, and with the request's own headers.
type echoTransport int

func (e echoTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: int(e), Header: req.Header, Body: http.NoBody, Request: req}, nil
}
