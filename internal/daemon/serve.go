package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/internal/controlserver"
	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/term"
	"github.com/kubeshore/kubeshore/internal/userdirs"
	"github.com/kubeshore/kubeshore/internal/version"
	"github.com/kubeshore/kubeshore/pkg/control"
)

// api is the daemon's side of the API.
type api struct {
	socket  *controlserver.Socket // nil if it isn't available
	metrics net.Listener          // of --metrics; nil if there is none
	journal *controlserver.Journal
	notice  string // why the socket isn't available; empty if it is
}

// openAPI opens the API's socket and the address of --metrics. It fails if the
// user's kubeshore is already running, and also if a daemon in the background
// would be unreachable.
func openAPI(ctx context.Context, o Options, log *logrus.Logger) (_ *api, err error) {
	a := &api{journal: new(controlserver.Journal)}
	if err = CheckNotRunning(ctx); err != nil {
		return nil, err
	}
	dirs, err := userdirs.SocketDirs()
	if err == nil {
		a.socket, err = controlserver.Listen(ctx, dirs...)
	}
	switch {
	case errors.Is(err, controlserver.ErrAlreadyRunning), err != nil && o.LogFile != "":
		return nil, err
	case err != nil:
		a.notice = fmt.Sprintf("%v; kubeshore ps, wait, logs and down are not available", err)
	}
	log.AddHook(&term.WriteHook{To: a.journal, Formatter: term.NewFormatter(o.Format, time.DateTime)})
	if o.Metrics != "" {
		if a.metrics, err = new(net.ListenConfig).Listen(ctx, "tcp", o.Metrics); err != nil {
			return nil, errors.Join(fmt.Errorf("--metrics %s: %w", o.Metrics, err), a.close())
		}
		log.Infof("serving metrics at http://%s/metrics", a.metrics.Addr())
	}
	return a, nil
}

func (a *api) close() error {
	var errs []error
	for _, l := range []net.Listener{a.socketListener(), a.metrics} {
		if l == nil {
			continue
		}
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (a *api) socketListener() net.Listener {
	if a.socket == nil {
		return nil
	}
	return a.socket
}

// socketCheckInterval is how often to check that the socket's path still leads to
// the socket.
const socketCheckInterval = 3 * time.Second

// serve serves the API until ctx ends. If it fails, the daemon keeps running.
func (a *api) serve(ctx context.Context, d *Daemon, metrics *controlserver.Metrics) {
	var helpers sync.WaitGroup
	defer helpers.Wait()
	if a.metrics != nil {
		helpers.Go(func() {
			if err := controlserver.ServeMetrics(ctx, a.metrics, d.options.Metrics, metrics.Handler()); err != nil {
				d.log.Warnf("--metrics: %v", err)
			}
		})
	}
	if a.socket == nil {
		return
	}
	helpers.Go(func() {
		a.socket.KeepReachable(ctx, socketCheckInterval, userdirs.SocketDirs, func(path string, err error) {
			if err != nil {
				d.log.Warnf("the control socket was removed and can't be recreated: %v", err)
				return
			}
			d.log.Warnf("the control socket was removed; recreated as %s", path)
		})
	})
	server := &controlserver.Server{Version: version.String(), Daemon: d, Journal: a.journal, Metrics: metrics.Handler()}
	if err := server.Serve(ctx, a.socket); err != nil {
		d.log.Warnf("control socket: %v", err)
	}
}

// CheckNotRunning returns an error that describes the user's running daemon, if
// there is one.
func CheckNotRunning(ctx context.Context) error {
	dirs, err := userdirs.SocketSearchDirs()
	if err != nil {
		return nil //nolint:nilerr // without directories there is no daemon
	}
	return checkNotRunning(ctx, dirs)
}

func checkNotRunning(ctx context.Context, dirs []string) error {
	status, err := control.NewClient(dirs...).Status(ctx)
	switch {
	case errors.As(err, new(*control.VersionError)):
		return err
	case err != nil:
		return nil //nolint:nilerr // none responds; if one runs all the same, Listen notices
	}
	err = fmt.Errorf("%w (pid %d, since %s): %s", controlserver.ErrAlreadyRunning, status.PID, status.Started.Format(time.DateTime), DescribeContexts(status.Contexts))
	if status.Stopping {
		return failure.WithHint(err, "kubeshore is shutting down; try again in a moment")
	}
	return failure.WithHint(err, "stop it with 'kubeshore down', or add to it with 'kubeshore add'")
}
