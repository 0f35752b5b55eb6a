package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/pkg/control"
	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/tunnel"
)

// running is a running daemon, as the API shows and steers it. It is a control.Daemon.
type running struct {
	flags    *upFlags
	wanted   *wanted
	engine   *fwd.Engine
	dialer   *tunnel.Dialer
	started  time.Time
	stopping atomic.Bool
	end      context.CancelFunc
}

// Status implements control.Daemon.
func (r *running) Status() control.Status {
	now, settled := r.engine.Status(), r.wanted.now.Load()
	status := control.Status{
		Version: version(), PID: os.Getpid(), Started: r.started, Ready: !now.At.IsZero(), Stopping: r.stopping.Load(),
		Kubeconfig: r.wanted.files(), HostsFile: r.flags.hostsFile, LogFile: r.flags.logFile, Listening: now.Listening,
		UpstreamConnections: r.dialer.Connections(), Services: control.Services(now, r.engine.Traffic()),
	}
	if settled.project {
		status.ProjectFile = r.wanted.project
	}
	for i, follow := range settled.follow {
		c := control.Context{Name: follow.Context, Namespaces: follow.Namespaces}
		if c.Namespaces == nil {
			c.Namespaces = []string{}
		}
		if i > 0 {
			c.Alias = settled.options.Contexts[i].Alias
		}
		for _, cluster := range now.Clusters {
			if cluster.Context == follow.Context {
				c.Server, c.Problems = cluster.Server, cluster.Problems
			}
		}
		status.Contexts = append(status.Contexts, c)
	}
	return status
}

// Changed implements control.Daemon.
func (r *running) Changed() <-chan struct{} { return r.engine.Changed() }

// AddNamespaces implements control.Daemon.
func (r *running) AddNamespaces(c control.NamespaceChange) error {
	return r.wanted.changeNamespaces(c.Context, c.Namespaces, nil)
}

// RemoveNamespaces implements control.Daemon.
func (r *running) RemoveNamespaces(c control.NamespaceChange) error {
	return r.wanted.changeNamespaces(c.Context, nil, c.Namespaces)
}

// Stop implements control.Daemon.
func (r *running) Stop() {
	if !r.stopping.Swap(true) {
		r.engine.Log.Info("kubeshore down: taking everything back")
	}
	r.end()
}

// api is what serves a daemon's state to other programs.
type api struct {
	socket  net.Listener // nil if there can be none
	metrics net.Listener // nil if there is to be none
	journal *control.Journal
	lacks   string // says, once things go well, what there isn't; empty if all is there
}

// openAPI takes the socket, and the address of --metrics. It fails if a kubeshore of
// the same user runs already.
func openAPI(ctx context.Context, metrics, format string, log *logrus.Logger) (_ *api, err error) {
	a := &api{journal: new(control.Journal)}
	folders, err := controlFolders()
	if err == nil {
		err = already(ctx, folders)
	}
	if err == nil {
		a.socket, err = control.Listen(ctx, folders[0])
	}
	switch {
	case errors.Is(err, control.ErrRunning):
		return nil, err
	case err != nil:
		a.lacks = fmt.Sprintf("%v; so kubeshore ps, wait, logs and down can't be used", err)
	}
	if metrics != "" {
		if a.metrics, err = new(net.ListenConfig).Listen(ctx, "tcp", metrics); err != nil {
			return nil, errors.Join(fmt.Errorf("--metrics %s: %w", metrics, err), a.close())
		}
		log.Infof("metrics at http://%s/metrics", a.metrics.Addr())
	}
	log.AddHook(&writeHook{a.journal, newFormatter(format, time.DateTime)})
	return a, nil
}

// already fails if a kubeshore listens in one of the folders, and says what it does.
func already(ctx context.Context, folders []string) error {
	status, err := control.NewClient(folders...).Status(ctx)
	if err != nil {
		return nil //nolint:nilerr // none answers; or it isn't certain, and then Listen sees
	}
	return fmt.Errorf("%w: process %d, since %s, %s; end it with kubeshore down, or give it more with kubeshore add",
		control.ErrRunning, status.PID, status.Started.Format(time.DateTime), describeContexts(status.Contexts))
}

// describeContext says what is followed of a context.
func describeContext(c control.Context) string {
	switch len(c.Namespaces) {
	case 0:
		return "all namespaces of context " + c.Name
	case 1:
		return fmt.Sprintf("namespace %s of context %s", c.Namespaces[0], c.Name)
	}
	return fmt.Sprintf("namespaces %s of context %s", strings.Join(c.Namespaces, ", "), c.Name)
}

func (a *api) close() error {
	var errs []error
	for _, l := range []net.Listener{a.socket, a.metrics} {
		if l == nil {
			continue
		}
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// serve serves until ctx ends. That it can't is no reason to end.
func (a *api) serve(ctx context.Context, daemon *running, metrics *control.Metrics) {
	if a.lacks != "" {
		daemon.engine.Log.Warn(a.lacks)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if a.metrics != nil {
			mux := http.NewServeMux()
			mux.Handle("GET /metrics", metrics.Handler())
			server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
			stop := context.AfterFunc(ctx, func() { _ = server.Close() })
			defer stop()
			if err := server.Serve(a.metrics); !errors.Is(err, http.ErrServerClosed) {
				daemon.engine.Log.Warnf("--metrics: %v", err)
			}
		}
	}()
	if a.socket != nil {
		server := &control.Server{Version: version(), Daemon: daemon, Journal: a.journal, Metrics: metrics.Handler()}
		if err := server.Serve(ctx, a.socket); err != nil {
			daemon.engine.Log.Warnf("control socket: %v", err)
		}
	}
	<-served
}
