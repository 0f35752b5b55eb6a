package credential

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/client-go/pkg/apis/clientauthentication"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/connrotation"

	"github.com/kubeshore/kubeshore/internal/backoff"
	"github.com/kubeshore/kubeshore/internal/printable"
)

const (
	// After a failure a plugin isn't run for minPluginInterval. The interval doubles
	// with each failure in a row, up to maxPluginInterval.
	minPluginInterval = 30 * time.Second
	maxPluginInterval = 10 * time.Minute
	// longRunGrace is how long a plugin may run before that is reported.
	longRunGrace = 10 * time.Second
)

var (
	// errRejected is the reason for a failure if the API server still responds with
	// 401 to a new credential.
	errRejected = errors.New("the API server rejects its credentials")
	// errReplaced ends the run of a plugin whose credential came from elsewhere. No
	// request gets it: see set.
	errReplaced = errors.New("another process provided the credential")
)

// plugin is one configuration of a plugin, with its credential.
type plugin struct {
	plugins *Plugins
	name    string // of the program
	context string // of the kubeconfig; the first one if several have the same configuration
	config  *clientcmdapi.ExecConfig
	cluster *clientauthentication.Cluster
	conns   *connrotation.ConnectionTracker // those that have used the client certificate

	mu         sync.Mutex
	credential *credential // nil if there is none, or it was rejected
	generation int         // of the credential
	suspect    bool        // there was a 401, and no credential was accepted since
	failure    *Error      // the last one, without its context; requests get it until its RetryAt
	delay      backoff.Backoff
	run        *run // nil if the plugin doesn't run
	// certificateData is the client certificate in use.
	certificateData string
}

// run is a run of a plugin, or waits for its turn. The result is set when done is
// closed: a credential or an error.
type run struct {
	cancel      context.CancelCauseFunc
	done        chan struct{}
	long        bool // it takes longer than longRunGrace; guarded by the plugin's mu
	interactive bool // it has the terminal; guarded by the plugin's mu

	credential *credential
	generation int
	err        error
}

func newPlugin(plugins *Plugins, contextName string, config *clientcmdapi.ExecConfig, cluster *clientauthentication.Cluster) *plugin {
	return &plugin{
		plugins: plugins, name: printable.Line(filepath.Base(config.Command), maxQuote), context: contextName, config: config, cluster: cluster,
		conns: connrotation.NewConnectionTracker(), delay: backoff.Backoff{Min: minPluginInterval, Max: maxPluginInterval},
	}
}

// get returns the credential and its generation. It runs the plugin if there is no
// valid one. If ctx ends first the plugin keeps running: a person may be answering.
func (p *plugin) get(ctx context.Context) (*credential, int, error) {
	p.mu.Lock()
	if c := p.credential; c != nil && !c.expired() {
		defer p.mu.Unlock()
		return c, p.generation, nil
	}
	if p.failure != nil && time.Now().Before(p.failure.RetryAt) {
		defer p.mu.Unlock()
		return nil, 0, p.failure
	}
	r := p.startLocked()
	p.mu.Unlock()
	select {
	case <-r.done:
		return r.credential, r.generation, r.err
	case <-ctx.Done():
		return nil, 0, context.Cause(ctx)
	}
}

// peek returns the credential without running the plugin.
func (p *plugin) peek() (c *credential, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.credential, p.credential != nil && !p.credential.expired()
}

// startLocked starts the plugin unless it is running.
func (p *plugin) startLocked() *run {
	if p.run != nil {
		return p.run
	}
	ctx, cancel := context.WithCancelCause(context.Background()) // no request's: Plugins.Close ends it
	r := &run{cancel: cancel, done: make(chan struct{})}
	if !p.plugins.begin(func() { p.execute(ctx, r) }) {
		cancel(nil)
		r.err = errClosed
		close(r.done)
		return r
	}
	p.run = r
	return r
}

// execute runs the plugin when it is its turn.
func (p *plugin) execute(ctx context.Context, r *run) {
	defer r.cancel(nil)
	defer p.plugins.changed.Fire()
	p.plugins.changed.Fire()
	long := time.AfterFunc(longRunGrace, func() {
		p.mu.Lock()
		r.long = true
		p.mu.Unlock()
		p.plugins.changed.Fire()
	})
	defer long.Stop()
	select {
	case p.plugins.turn <- struct{}{}:
	case <-ctx.Done():
		p.finish(r, nil, context.Cause(ctx))
		return
	}
	c, err := p.runOnce(ctx, r)
	<-p.plugins.turn
	p.finish(r, c, err)
}

// runOnce runs the plugin. It has the terminal if it may ask something.
func (p *plugin) runOnce(ctx context.Context, r *run) (*credential, error) {
	e := execution{config: p.config, cluster: p.cluster, onStderr: func(line string) {
		if p.plugins.onOutput != nil {
			p.plugins.onOutput(p.name, line)
		}
	}}
	mayAsk := p.config.InteractiveMode != clientcmdapi.NeverExecInteractiveMode && !p.config.StdinUnavailable
	if mayAsk && p.plugins.terminal != nil {
		in, out, release, ok := p.plugins.terminal.Lend(ctx)
		if ok {
			defer release()
			e.terminal = &loan{in, out}
			p.mu.Lock()
			r.interactive = true
			p.mu.Unlock()
			if p.plugins.several() {
				fmt.Fprintf(out, "credential plugin %s of context %s:\n", p.name, printable.Line(p.context, maxQuote))
			}
		}
	}
	c, err := e.run(ctx)
	if e.terminal != nil && ctx.Err() != nil {
		fmt.Fprintln(e.terminal.out) // below the prompt that nobody answered
	}
	return c, err
}

// finish ends a run, unless set has ended it.
func (p *plugin) finish(r *run, c *credential, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run != r {
		return
	}
	switch {
	case errors.Is(err, errClosed):
		r.err = err
	case err != nil:
		r.err = p.failLocked(err)
	default:
		p.replaceLocked(c)
	}
	p.endRunLocked()
}

// endRunLocked ends the run with its error or, if it has none, the current credential.
func (p *plugin) endRunLocked() {
	r := p.run
	if r.err == nil {
		r.credential, r.generation = p.credential, p.generation
	}
	close(r.done)
	p.run = nil
}

// replaceLocked stores a new credential. Connections that used the previous
// certificate are closed, because the API server checks it only once.
func (p *plugin) replaceLocked(c *credential) {
	p.credential, p.failure = c, nil
	p.generation++
	if c.status.ClientCertificateData != p.certificateData {
		p.certificateData = c.status.ClientCertificateData
		p.conns.CloseAll()
	}
}

// failLocked records a failure, and returns it.
func (p *plugin) failLocked(err error) *Error {
	p.credential = nil
	p.failure = &Error{plugin: p.name, reason: err, RetryAt: time.Now().Add(p.delay.Next())}
	return p.failure
}

// set replaces the credential with one that the plugin returned to another process,
// and stops the plugin. Waiting requests get that credential at once. If the API
// server rejects it, the plugin runs again, when the stopped one has exited.
func (p *plugin) set(c *credential) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.replaceLocked(c)
	p.suspect = false
	p.delay.Reset()
	if p.run != nil {
		p.run.cancel(errReplaced)
		p.endRunLocked()
	}
}

// cancel stops the plugin if it is running.
func (p *plugin) cancel(cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run != nil {
		p.run.cancel(cause)
	}
}

// rejected handles a 401 in response to the credential of the given generation: it
// runs the plugin or, if that was done for the previous 401, starts a delay. It
// returns when there is a result, or ctx ends.
func (p *plugin) rejected(ctx context.Context, generation int) {
	p.mu.Lock()
	switch {
	case p.generation != generation || p.credential == nil: // another request's 401 came first
		p.mu.Unlock()
		return
	case p.suspect:
		_ = p.failLocked(errRejected)
		p.mu.Unlock()
		return
	}
	p.suspect = true
	p.credential = nil
	r := p.startLocked()
	p.mu.Unlock()
	select {
	case <-r.done:
	case <-ctx.Done():
	}
}

// accepted records that the credential of the given generation is valid.
func (p *plugin) accepted(generation int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.generation == generation {
		p.suspect = false
		p.delay.Reset()
	}
}

// certificate returns the client certificate; an empty one if there is none.
func (p *plugin) certificate() (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.credential == nil {
		return nil, nil //nolint:nilnil // transport.GetCertHolder's contract
	}
	return p.credential.certificate, nil
}
