// Package daemon is one run of kubeshore: it reads the configuration, serves the
// API, opens the machine, and forwards until it is told to stop.
package daemon

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/internal/config"
	"github.com/kubeshore/kubeshore/internal/machine"
	"github.com/kubeshore/kubeshore/internal/term"
	"github.com/kubeshore/kubeshore/internal/wake"
	"github.com/kubeshore/kubeshore/pkg/credential"
	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/listen"
	"github.com/kubeshore/kubeshore/pkg/tunnel"
)

// Options configures a run.
type Options struct {
	Config  config.Options
	Machine machine.Options

	// Transport, Hold, Balance and Drain configure connections; see [fwd.Engine].
	Transport tunnel.Transport
	Hold      time.Duration
	Balance   fwd.Balance
	Drain     time.Duration
	// For selects the users whose connections are accepted; see [listen.NewClients].
	For listen.Audience

	Metrics string        // address for Prometheus; empty: none
	Format  term.Format   // of the log
	Notes   []string      // lines to log at the start
	View    *term.LogView // the log in a terminal, which gets a status line; may be nil

	// Terminal is lent to credential plugins that may ask something; nil if there is
	// none.
	Terminal credential.Terminal
	// Credentials are those that the process that started this one got from plugins.
	Credentials []credential.Handover
	// LogFile is the path of the log of a daemon in the background; empty if it
	// runs in a terminal.
	LogFile string
	// OnStart runs next to the daemon, e.g. to wait until it is ready. Its error
	// ends the run. It may be nil.
	OnStart func(ctx context.Context, d *Daemon) error
}

// OpenFunc opens the machine with the given options. It may ask for a password.
type OpenFunc func(context.Context, machine.Options) (machine.Machine, error)

// Daemon is a run in progress, as the API shows and controls it. Any goroutine
// may call its exported methods.
type Daemon struct {
	options Options
	config  *config.Watcher
	dialer  *tunnel.Dialer
	log     logrus.FieldLogger
	started time.Time
	cancel  context.CancelFunc // begins the shutdown

	clients  *listen.Clients
	stopping atomic.Bool
	// acceptProblem is why connections can't be accepted; nil or empty if they can.
	acceptProblem atomic.Pointer[string]
	// namesProblem is why other programs don't find the names; nil or empty if they do.
	namesProblem atomic.Pointer[string]
	forward      atomic.Pointer[forwarder] // nil until the machine is open
	changed      wake.Broadcast            // fires for changes before that, and when it is opened
}

// forwarder is the part of a daemon that needs the machine.
type forwarder struct {
	engine  *fwd.Engine
	machine machine.Machine
}

// newDaemon returns a daemon whose machine isn't open yet.
func newDaemon(o Options, watcher *config.Watcher, clients *listen.Clients, log logrus.FieldLogger, cancel context.CancelFunc) *Daemon {
	d := &Daemon{options: o, config: watcher, clients: clients, log: log, cancel: cancel}
	d.dialer = tunnel.New(d.findCluster, o.Transport)
	return d
}

// findCluster returns how to reach a context's cluster.
func (d *Daemon) findCluster(contextName string) (tunnel.Cluster, bool) {
	cluster, ok := d.config.Source.Cluster(contextName)
	if !ok {
		return tunnel.Cluster{}, false
	}
	return tunnel.Cluster{Config: cluster.Config, Gate: cluster.Gate}, true
}
