package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/kubeshore/kubeshore/internal/config"
	"github.com/kubeshore/kubeshore/internal/controlserver"
	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/machine"
	"github.com/kubeshore/kubeshore/internal/stopsignal"
	"github.com/kubeshore/kubeshore/internal/version"
	"github.com/kubeshore/kubeshore/pkg/credential"
	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/listen"
)

// Run forwards until it is told to stop by ctx, a signal or the API, and returns
// when the machine is restored. Errors before the machine is open leave everything
// unchanged.
func Run(ctx context.Context, o Options, log *logrus.Logger, open OpenFunc) (err error) {
	started := time.Now()
	for _, note := range o.Notes {
		log.Warn(note)
	}
	if err := setWatchTimeouts(); err != nil {
		return err
	}
	signals := stopsignal.Notify(log)
	defer signals.Stop()
	clients, err := listen.NewClients(o.For)
	if err != nil {
		return failure.WithHint(fmt.Errorf("identify the users of connections: %w", err), "--for everyone admits all users of this machine")
	}
	defer clients.Close()
	plugins := NewPlugins(o.Terminal, log)
	plugins.Import(o.Credentials)
	server, err := openAPI(ctx, o, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	abort, skipDrain := context.WithCancel(context.WithoutCancel(ctx))
	defer skipDrain()
	defer plugins.Close()
	defer context.AfterFunc(ctx, plugins.Close)() // so that Ctrl-C ends a prompt at once
	d := newDaemon(o, config.NewWatcher(o.Config, plugins, log), clients, log, cancel)
	d.started = started
	metrics := controlserver.NewMetrics(version.String(), d.Status)

	var helpers sync.WaitGroup
	defer helpers.Wait()
	done := make(chan struct{})
	defer close(done)
	helpers.Go(func() { signals.Handle(done, func() { d.shutDown() }, skipDrain) })
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	helpers.Go(func() { server.serve(serving, d, metrics) }) // also while sudo asks for a password, or a file blocks
	return d.run(ctx, abort, metrics, func(ctx context.Context, o machine.Options) (machine.Machine, error) {
		m, err := open(ctx, o)
		if err == nil && server.notice != "" {
			log.Warn(server.notice)
		}
		return m, err
	})
}

// NewPlugins returns a runner of credential plugins that logs what plugins without a
// terminal write to stderr.
func NewPlugins(terminal credential.Terminal, log logrus.FieldLogger) *credential.Plugins {
	return credential.NewPlugins(terminal, func(plugin, line string) { log.Infof("credential plugin %s: %s", plugin, line) })
}

// run reads the configuration, opens the machine, forwards until ctx ends, and
// restores the machine.
func (d *Daemon) run(ctx, abort context.Context, meter fwd.Meter, open OpenFunc) (err error) {
	err = OpenConfig(ctx, d.config)
	var m machine.Machine
	if err == nil {
		d.changed.Fire()
		options := d.options.Machine
		options.Names = d.config.KeeperNames()
		m, err = open(ctx, options)
	}
	if err != nil && ctx.Err() != nil {
		return nil // stopped before anything was changed
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	engine, err := d.newEngine(m, meter)
	if err != nil {
		return err
	}
	d.forward.Store(&forwarder{engine, m})
	d.changed.Fire()
	if err := d.withStatusLine(func() error { return d.runParts(ctx, abort, engine, m) }); err != nil {
		return err
	}
	d.log.Info("cleaned up")
	return nil
}

// setWatchTimeouts makes client-go's watches notice a lost API server within five
// seconds, as after sleep or a VPN change, instead of 45. client-go reads them
// from the environment only; values that the user has set stay in force.
func setWatchTimeouts() error {
	for name, seconds := range map[string]string{"HTTP2_READ_IDLE_TIMEOUT_SECONDS": "3", "HTTP2_PING_TIMEOUT_SECONDS": "2"} {
		if os.Getenv(name) == "" {
			if err := os.Setenv(name, seconds); err != nil {
				return err
			}
		}
	}
	return nil
}

// withStatusLine calls run, and shows a status line meanwhile.
func (d *Daemon) withStatusLine(run func() error) error {
	if d.options.View == nil {
		return run()
	}
	var showing sync.WaitGroup
	defer showing.Wait()
	done := make(chan struct{})
	defer close(done)
	showing.Go(func() { d.options.View.ShowStatus(done, d) })
	return run()
}

// runParts runs the parts until ctx ends or one of them fails. The dialer and the
// machine stop last, because the engine needs them to drain connections and to
// restore the machine.
func (d *Daemon) runParts(ctx, abort context.Context, engine *fwd.Engine, m machine.Machine) error {
	parts, ctx := errgroup.WithContext(ctx)
	lasting, stopLasting := context.WithCancel(context.WithoutCancel(ctx))
	parts.Go(func() error { return d.config.Source.Run(ctx) })
	parts.Go(func() error {
		d.config.Watch(ctx)
		return nil
	})
	parts.Go(func() error {
		d.clients.Report(ctx, d.reportRefused)
		return nil
	})
	parts.Go(func() error {
		d.checkNames(ctx, engine, m.Names != nil)
		return nil
	})
	parts.Go(func() error {
		d.announceReady(ctx)
		return nil
	})
	parts.Go(func() error { return d.dialer.Run(lasting) })
	if m.Run != nil {
		parts.Go(func() error { return m.Run(lasting) })
	}
	if d.options.OnStart != nil {
		parts.Go(func() error { return d.options.OnStart(ctx, d) })
	}
	parts.Go(func() error {
		defer stopLasting()
		return d.runEngine(ctx, abort, engine, m)
	})
	err := parts.Wait()
	if n := d.dialer.Stalled(); n > 0 {
		d.log.Warnf("reset %d connections whose clients were too slow and blocked others", n)
	}
	return err
}

// runEngine runs the engine once the clusters can be read.
func (d *Daemon) runEngine(ctx, abort context.Context, engine *fwd.Engine, m machine.Machine) error {
	err := d.config.Source.Ready(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil //nolint:nilerr // stopped before anything was changed
	case err != nil:
		return err
	}
	d.log.Infof("kubeconfig %s", strings.Join(d.config.Kubeconfig(), ", "))
	if path := d.config.ProjectFile(); path != "" {
		d.log.Infof("project file %s", path)
	}
	d.config.Announce()
	d.log.Debugf("listening with %s", m.Ports.How())
	if m.Notice != "" {
		d.log.Warn(m.Notice)
	}
	return engine.Run(ctx, abort)
}
