// Package credential keeps a credential plugin of a kubeconfig from being run
// over and over when it fails: each run may open a browser window.
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

	"github.com/kubeshore/kubeshore/pkg/fwd"
)

// A plugin that failed is not run again for the first of these; each further
// time in a row the wait is twice as long, up to the second.
const (
	firstWait = 30 * time.Second
	maxWait   = 10 * time.Minute
)

// refused is what the plugin's credentials are if they were renewed and still
// lead to 401. It also is what becomes of a plugin that fails after a 401:
// client-go keeps the old credentials then, and tells its log alone.
const refused = "the API server does not accept what it gives"

// Gate stands between the requests to one cluster and the credential plugin of
// its user: one request at a time asks client-go for credentials, which runs
// the plugin if it has none that are good, and after a failure all requests
// fail with the same [fwd.UnreachedError] until a wait is over. All that talk
// to the cluster go through one Gate.
type Gate struct {
	context string
	turn    chan struct{} // full while one asks client-go

	mu         sync.Mutex
	generation int           // of the credentials: how often they were renewed or given up
	suspect    bool          // they were renewed after a 401, and not accepted since
	failure    error         // of the last run; nil once it is to be run again
	until      time.Time     // when that is
	wait       time.Duration // how long the last wait was; 0 after a success
}

// NewGate returns a gate for the context of that name.
func NewGate(context string) *Gate {
	return &Gate{context: context, turn: make(chan struct{}, 1)}
}

// Config is config.TransportConfig, with the gate before its credential plugin,
// if it has one. TLS client certificates of the plugin's are kept as client-go
// has them. A nil Gate lets everything through.
func (g *Gate) Config(config *rest.Config) (*transport.Config, error) {
	conf, err := config.TransportConfig()
	if err != nil || g == nil || !conf.HasCertCallback() { // it is the plugin's
		return conf, err
	}
	plugin := conf.WrapTransport
	conf.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
		if config.WrapTransport != nil {
			next = config.WrapTransport(next)
		}
		return &gated{gate: g, plugin: plugin, next: next}
	}
	return conf, nil
}

// gated is a transport whose requests have the plugin's credentials.
type gated struct {
	gate   *Gate
	plugin transport.WrapperFunc // client-go's, which runs it
	next   http.RoundTripper
}

func (t *gated) RoundTrip(req *http.Request) (*http.Response, error) {
	authorization, generation, err := t.gate.ask(req.Context(), t.plugin)
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
func (t *gated) WrappedRoundTripper() http.RoundTripper { return t.next }

// ask returns the Authorization header of a request, which is empty if the
// plugin gives certificates, and the generation of the credentials.
func (g *Gate) ask(ctx context.Context, plugin transport.WrapperFunc) (authorization string, generation int, err error) {
	if err := g.take(ctx); err != nil {
		return "", 0, err
	}
	if err := g.waiting(); err != nil {
		g.give()
		return "", 0, err
	}
	authorization, mine, err := g.request(ctx, plugin, http.StatusOK)
	if !mine {
		return "", 0, err
	}
	defer g.give()
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		// The rest of client-go's text is advice of many lines.
		reason, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "getting credentials: "), "\n")
		return "", 0, g.failLocked("it gave nothing: " + reason)
	}
	return authorization, g.generation, nil
}

// rejected takes that the API server said 401 to credentials of the generation
// given, and renews them; if they were renewed only just, it gives up on them
// for a while.
func (g *Gate) rejected(ctx context.Context, plugin transport.WrapperFunc, generation int) {
	if g.take(ctx) != nil {
		return
	}
	g.mu.Lock()
	renew := g.generation == generation && !g.suspect
	if g.generation == generation {
		g.generation++
		g.suspect = renew
		if !renew {
			_ = g.failLocked(refused)
		}
	}
	g.mu.Unlock()
	if !renew {
		g.give()
		return
	}
	// That client-go is told of a 401 is what makes it run the plugin. Its
	// failure is in client-go's log only, and in the next answer.
	if _, mine, _ := g.request(ctx, plugin, http.StatusUnauthorized); mine {
		g.give()
	}
}

// accepted takes that credentials are good.
func (g *Gate) accepted(generation int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.generation == generation {
		g.suspect, g.wait = false, 0
	}
}

// waiting returns the last failure as long as its wait isn't over.
func (g *Gate) waiting() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failure != nil && !time.Now().Before(g.until) {
		g.failure = nil
	}
	return g.failure
}

func (g *Gate) failLocked(reason string) error {
	g.wait = min(max(firstWait, 2*g.wait), maxWait)
	g.until = time.Now().Add(g.wait)
	g.failure = &fwd.UnreachedError{Why: fwd.Denied, Err: fmt.Errorf(
		"the credential plugin of context %s fails: %s; it is not run again before %s; log in again, or run it by hand to see why",
		g.context, reason, g.until.Format(time.TimeOnly),
	)}
	return g.failure
}

// take waits for the turn to ask client-go.
func (g *Gate) take(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case g.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *Gate) give() { <-g.turn }

// request lets client-go put credentials on a request that goes nowhere, and
// answers it with the status given. If ctx ends while the plugin runs, which
// nobody can end, request returns all the same, and mine is false: the turn is
// the plugin's until it ends.
func (g *Gate) request(ctx context.Context, plugin transport.WrapperFunc, status int) (authorization string, mine bool, err error) {
	type outcome struct {
		authorization string
		err           error
	}
	ended, left := make(chan outcome), make(chan struct{})
	go func() {
		authorization, err := request(context.WithoutCancel(ctx), plugin, status)
		select {
		case ended <- outcome{authorization, err}:
		case <-left:
			g.give()
		}
	}()
	select {
	case o := <-ended:
		return o.authorization, true, o.err
	case <-ctx.Done():
		close(left)
		return "", false, context.Cause(ctx)
	}
}

func request(ctx context.Context, plugin transport.WrapperFunc, status int) (authorization string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	if err != nil {
		return "", err
	}
	resp, err := plugin(answer(status)).RoundTrip(req)
	if err != nil {
		return "", err
	}
	return resp.Header.Get("Authorization"), resp.Body.Close()
}

// answer is a transport that answers with a status, and with the request's own
// headers.
type answer int

func (a answer) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: int(a), Header: req.Header, Body: http.NoBody, Request: req}, nil
}
