package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/internal/controlserver"
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
	names    atomic.Pointer[names] // nil as long as there are none
	end      context.CancelFunc
}

// Status implements control.Daemon.
func (r *running) Status() control.Status {
	now, settled := r.engine.Status(), r.wanted.now.Load()
	status := control.Status{
		Overview: control.Overview{
			Version: version(), PID: os.Getpid(), Started: r.started, Synced: !now.At.IsZero(), Stopping: r.stopping.Load(),
			Kubeconfig: r.wanted.files(), HostsFile: r.flags.hostsFile, LogFile: r.flags.logFile, Listening: now.Listening,
			UpstreamConnections: r.dialer.Connections(), Problems: r.wanted.problems(),
		},
		Services: controlserver.Services(now, r.engine.Traffic()),
	}
	if settled.project {
		status.ProjectFile = r.wanted.project
	}
	if names := r.names.Load(); names != nil {
		status.HostsWrites = (*names).Writes()
	}
	for i, follow := range settled.follow {
		c := control.Context{Name: follow.Context, Namespaces: follow.Namespaces}
		if c.Namespaces == nil {
			c.Namespaces = []string{}
		}
		if i > 0 {
			c.Alias = settled.options.Contexts[i].Alias
		}
		var read []string
		for _, cluster := range now.Clusters {
			if cluster.Context == follow.Context {
				c.Server, c.Problems, read = cluster.Server, cluster.Problems, cluster.Read
			}
		}
		c.Reading = unread(follow.Namespaces, read)
		status.Contexts = append(status.Contexts, c)
	}
	return status
}

// unread returns those of the namespaces that are followed that weren't read yet.
func unread(followed, read []string) []string {
	if followed == nil && !slices.Contains(read, "") {
		return []string{control.AllNamespaces}
	}
	return slices.DeleteFunc(slices.Clone(followed), func(namespace string) bool { return slices.Contains(read, namespace) })
}

// Changed implements control.Daemon.
func (r *running) Changed() <-chan struct{} { return r.engine.Changed() }

// AddNamespaces implements control.Daemon.
func (r *running) AddNamespaces(c control.NamespaceChange) error {
	defer r.engine.Announce()
	return r.wanted.changeNamespaces(c.Context, c.Namespaces, nil)
}

// RemoveNamespaces implements control.Daemon.
func (r *running) RemoveNamespaces(c control.NamespaceChange) error {
	defer r.engine.Announce()
	return r.wanted.changeNamespaces(c.Context, nil, c.Namespaces)
}

// Stop implements control.Daemon.
func (r *running) Stop() {
	if r.quit() {
		r.engine.Log.Info("kubeshore down: taking everything back")
	}
}

// quit has it end, and tells whether it wasn't ending already.
func (r *running) quit() bool {
	first := !r.stopping.Swap(true)
	r.engine.Announce()
	r.end()
	return first
}

// api is what serves a daemon's state to other programs.
type api struct {
	socket  *controlserver.Socket // nil if there can be none
	metrics net.Listener          // nil if there is to be none
	journal *controlserver.Journal
	lacks   string // says, once things go well, what there isn't; empty if all is there
}

// openAPI takes the socket, and the address of --metrics. It fails if a kubeshore of
// the same user runs already, and if one that is in the background could not be reached.
func openAPI(ctx context.Context, f *upFlags, log *logrus.Logger) (_ *api, err error) {
	a := &api{journal: new(controlserver.Journal)}
	if err = alreadyAnywhere(ctx); err != nil {
		return nil, err
	}
	folders, err := socketFolders()
	if err == nil {
		a.socket, err = controlserver.Listen(ctx, folders...)
	}
	switch {
	case errors.Is(err, controlserver.ErrAlreadyRunning), err != nil && f.logFile != "":
		return nil, err
	case err != nil:
		a.lacks = fmt.Sprintf("%v; so kubeshore ps, wait, logs and down can't be used", err)
	}
	log.AddHook(&writeHook{a.journal, newFormatter(f.logFormat, time.DateTime)})
	if f.metrics != "" {
		if a.metrics, err = new(net.ListenConfig).Listen(ctx, "tcp", f.metrics); err != nil {
			return nil, errors.Join(fmt.Errorf("--metrics %s: %w", f.metrics, err), a.close())
		}
		log.Infof("metrics at http://%s/metrics", a.metrics.Addr())
	}
	return a, nil
}

// alreadyAnywhere is already, of all folders.
func alreadyAnywhere(ctx context.Context) error {
	folders, err := controlFolders()
	if err != nil {
		return nil //nolint:nilerr // there can be none
	}
	return already(ctx, folders)
}

// already fails if a kubeshore listens in one of the folders, and says what it does.
func already(ctx context.Context, folders []string) error {
	status, err := control.NewClient(folders...).Status(ctx)
	switch {
	case errors.As(err, new(*control.VersionError)):
		return err
	case err != nil:
		return nil //nolint:nilerr // none answers; or it isn't certain, and then Listen sees
	}
	advice := "end it with kubeshore down, or give it more with kubeshore add"
	if status.Stopping {
		advice = "it is just ending"
	}
	return fmt.Errorf("%w: process %d, since %s, %s; %s",
		controlserver.ErrAlreadyRunning, status.PID, status.Started.Format(time.DateTime), describeContexts(status.Contexts), advice)
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
	closed := func(err error) {
		if !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if a.socket != nil {
		closed(a.socket.Close())
	}
	if a.metrics != nil {
		closed(a.metrics.Close())
	}
	return errors.Join(errs...)
}

// keepEvery is how often is looked whether the socket can still be reached.
const keepEvery = 3 * time.Second

// serve serves until ctx ends. That it can't is no reason to end.
func (a *api) serve(ctx context.Context, daemon *running, metrics *controlserver.Metrics) {
	log := daemon.engine.Log
	var beside sync.WaitGroup
	defer beside.Wait()
	if a.metrics != nil {
		beside.Go(func() {
			if err := controlserver.ServeMetrics(ctx, a.metrics, metrics.Handler()); err != nil {
				log.Warnf("--metrics: %v", err)
			}
		})
	}
	if a.socket == nil {
		return
	}
	beside.Go(func() {
		a.socket.KeepReachable(ctx, keepEvery, socketFolders, func(path string, err error) {
			if err != nil {
				log.Warnf("the control socket was removed, and can't be had anew: %v", err)
				return
			}
			log.Warnf("the control socket was removed; it is %s now", path)
		})
	})
	server := &controlserver.Server{Version: version(), Daemon: daemon, Journal: a.journal, Metrics: metrics.Handler()}
	if err := server.Serve(ctx, a.socket); err != nil {
		log.Warnf("control socket: %v", err)
	}
}
