// Package credential gets credentials for the API server from the credential plugins
// of a kubeconfig. It speaks the protocol client.authentication.k8s.io as client-go
// does, but owns the running plugin: a plugin that may ask something has the
// terminal to itself, it can be stopped, and its credential can be handed to
// another process. A plugin that fails doesn't run again at once: each run may open
// a browser window.
package credential

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"slices"
	"sync"

	"k8s.io/client-go/pkg/apis/clientauthentication"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/kubeshore/kubeshore/internal/wake"
)

// Terminal is the user's terminal.
type Terminal interface {
	// Lend hands over the terminal until release is called, which restores its
	// modes. Nothing else is written to it meanwhile. ok is false if there is no
	// terminal, or this process is in its background.
	Lend(ctx context.Context) (in, out *os.File, release func(), ok bool)
}

// loan is a Terminal in use by a plugin.
type loan struct{ in, out *os.File }

// Plugins runs the credential plugins of a process, one at a time, and keeps their
// credentials. Contexts whose plugins have the same configuration share a
// credential. Any goroutine may call its methods.
type Plugins struct {
	terminal Terminal // nil if there is none
	onOutput func(plugin, line string)
	turn     chan struct{} // full while a plugin runs
	changed  wake.Broadcast
	running  sync.WaitGroup

	mu      sync.Mutex // locked last: no plugin's mu is locked while it is held
	closed  bool
	plugins map[string]*plugin // by key
	given   map[string]*credential
}

// NewPlugins returns a runner of plugins. Those that may ask something get the
// terminal; it may be nil. onOutput gets what the others write to stderr; it may be
// nil.
func NewPlugins(terminal Terminal, onOutput func(plugin, line string)) *Plugins {
	return &Plugins{
		terminal: terminal, onOutput: onOutput, turn: make(chan struct{}, 1),
		plugins: make(map[string]*plugin), given: make(map[string]*credential),
	}
}

// errClosed is the error of requests after Close.
var errClosed = errors.New("kubeshore is shutting down")

// Close stops the running plugin, and waits for it. No plugin runs after that.
func (p *Plugins) Close() {
	p.mu.Lock()
	p.closed = true
	plugins := slices.Collect(maps.Values(p.plugins))
	p.mu.Unlock()
	for _, one := range plugins {
		one.cancel(errClosed)
	}
	p.running.Wait()
}

// Changed returns a channel that is closed when a plugin starts, takes long, or ends.
func (p *Plugins) Changed() <-chan struct{} { return p.changed.C() }

// Handover is a credential for another process. Key identifies the configuration of
// its plugin.
type Handover struct {
	Key    string `json:"key"`
	Status Status `json:"status"`
}

// Export returns the credentials.
func (p *Plugins) Export() []Handover {
	p.mu.Lock()
	plugins := maps.Clone(p.plugins)
	p.mu.Unlock()
	var all []Handover
	for key, one := range plugins {
		if c, ok := one.peek(); ok {
			all = append(all, Handover{key, c.status})
		}
	}
	slices.SortFunc(all, func(a, b Handover) int {
		if a.Key < b.Key {
			return -1
		}
		return 1
	})
	return all
}

// Import adds credentials that another process has exported. It ignores invalid
// ones: their plugins then run again.
func (p *Plugins) Import(all []Handover) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range all {
		if c, err := newCredential(one.Status); err == nil {
			p.given[one.Key] = c
		}
	}
}

// get returns the plugin with a configuration. server is the API server's URL.
func (p *Plugins) get(contextName, server string, config *clientcmdapi.ExecConfig, cluster *clientauthentication.Cluster) (*plugin, error) {
	text, err := json.Marshal([]any{server, config, config.InteractiveMode, config.PluginPolicy, cluster})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	key := hex.EncodeToString(sum[:])
	p.mu.Lock()
	defer p.mu.Unlock()
	if known := p.plugins[key]; known != nil {
		return known, nil
	}
	one := newPlugin(p, contextName, config, cluster)
	if c := p.given[key]; c != nil {
		one.credential, one.certificateData = c, c.status.ClientCertificateData
		delete(p.given, key)
	}
	p.plugins[key] = one
	return one, nil
}

// begin calls run in a goroutine that Close waits for, unless p is closed.
func (p *Plugins) begin(run func()) (ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.running.Go(run)
	}
	return !p.closed
}

// several reports whether more than one plugin may use the terminal.
func (p *Plugins) several() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.plugins) > 1
}
