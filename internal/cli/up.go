package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/kubeshore/kubeshore/internal/controlserver"
	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/hosts"
	"github.com/kubeshore/kubeshore/pkg/listen"
	"github.com/kubeshore/kubeshore/pkg/loopback"
	"github.com/kubeshore/kubeshore/pkg/tunnel"
)

// upFlags is what `kubeshore up` is told.
type upFlags struct {
	selection
	kubeconfig string
	config     string // the project's file
	hostsFile  string
	ranges     []string // where addresses are; the first is for those of our own choice
	listen     listen.Mode
	user       string
	rootless   bool
	transport  tunnel.Transport
	hold       time.Duration
	balance    fwd.Balance
	drain      time.Duration
	verbose    int
	logFormat  string
	detach     bool
	wait       time.Duration                         // for readiness, before it detaches
	metrics    string                                // where metrics are served by TCP; empty: nowhere
	logFile    string                                // empty: the log is a terminal's
	ready      func(context.Context, *running) error // does what is to be done once services can answer; may be nil
	notes      []string                              // what there is to say of the flags themselves, a line each

	conf         string   // kubefwd's file of addresses
	reservations []string // addresses, as kubefwd's flag has them
}

// defaults returns what is so unless it is said otherwise.
func defaults() upFlags {
	return upFlags{
		hostsFile: hosts.DefaultPath(), ranges: []string{loopback.DefaultPrefix.String()},
		hold: 10 * time.Second, drain: time.Second, logFormat: formatText, wait: 30 * time.Second,
	}
}

func newUp(streams Streams) *cobra.Command {
	f := defaults()
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Forward services until stopped",
		Long: `Forward every service of the namespaces to this machine until stopped by Ctrl-C,
SIGTERM, SIGQUIT or SIGHUP; then take everything back. The services of the first
namespace answer to their bare names too.

A project's file, kubeshore.yaml, in this folder or above it, says the same and
more; flags go before it.

It needs root for the hosts file and for ports, and asks for it by sudo; all else,
credential plugins too, runs as you.`,
		Example: `  kubeshore up                         # the current context's namespace
  kubeshore up -n shop,data            # then: curl http://go-ok, curl http://db-0.db.data:5432
  kubeshore up -A -x dev,staging       # all namespaces of two clusters
  kubeshore up --include 'web*,db.data' -m 80:8080
  kubeshore up -d                      # in the background; then kubeshore ps, logs, down
  sudo -E kubeshore up                 # the same, as sudo's command; -E keeps your KUBECONFIG`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(cmd.Flags()); err != nil {
				return usage(err)
			}
			if f.inBackground() {
				return startDetached(cmd.Context(), f)
			}
			shown := newScreen(streams.Err)
			return shown.during(func() error {
				log := newLog(shown, f.logFormat, f.verbose)
				if f.detach {
					return detach(cmd.Context(), f, shown, log)
				}
				return startShown(cmd.Context(), f, shown, log)
			})
		},
	}
	groups := f.groups()
	cmd.Flags().SortFlags = false
	for _, group := range groups {
		group.flags.SortFlags = false
		cmd.Flags().AddFlagSet(group.flags)
	}
	cmd.SetUsageFunc(func(cmd *cobra.Command) error { return writeUsage(cmd, groups) })
	completeFlags(cmd)
	return cmd
}

// startShown is start, and ends in good order when who reads what is shown has gone, as
// head(1) does: nobody would see any more that it runs.
func startShown(ctx context.Context, f upFlags, shown *screen, log *logrus.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	shown.whenBroken(cancel)
	return start(ctx, f, log)
}

// flagGroup is some flags, which the help shows together.
type flagGroup struct {
	title string
	flags *pflag.FlagSet
}

// groups defines the flags.
func (f *upFlags) groups() []flagGroup {
	what := pflag.NewFlagSet("", pflag.ContinueOnError)
	what.VarP((*list)(&f.namespaces), "namespace", "n", "namespaces to forward, separated by commas (default: the context's)")
	what.BoolVarP(&f.all, "all-namespaces", "A", false, "forward all namespaces")
	what.VarP((*list)(&f.contexts), "context", "x", "contexts of the kubeconfig, separated by commas (default: the current one)")
	what.StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig file (default: KUBECONFIG or ~/.kube/config)")
	what.StringVarP(&f.selector, "selector", "l", "", "forward services with these labels only, as kubectl's --selector")
	what.StringVarP(&f.fieldSelector, "field-selector", "f", "", "forward services with these fields only, as metadata.name=web")
	what.Var((*list)(&f.include), "include", "forward these services only: patterns of name, or of name.namespace")
	what.Var((*list)(&f.exclude), "exclude", "don't forward these services")
	what.StringVar(&f.config, "config", "", "project's file (default: kubeshore.yaml, here or above)")

	where := pflag.NewFlagSet("", pflag.ContinueOnError)
	where.VarP((*list)(&f.mapping), "mapping", "m", "have a port of services on another one here, as 80:8080")
	where.StringVar(&f.domain, "domain", "", "one more suffix for every short name")
	where.BoolVar(&f.ingress, "ingress", false, "make the hosts of Ingresses names of their controller's service")
	where.StringSliceVar(&f.ranges, "cidr", f.ranges, "ranges of 127.0.0.0/8 that services' addresses are in; of the first are those that nobody has chosen")
	where.StringVar(&f.hostsFile, "hosts-file", f.hostsFile, "hosts file to write the names to")
	where.Var(&f.listen, "listen", "how ports are taken: by one socket for all of them, one for each, or the first of these that can be had")

	run := pflag.NewFlagSet("", pflag.ContinueOnError)
	run.BoolVarP(&f.detach, "detach", "d", false, "go to the background once all services can answer")
	run.DurationVar(&f.wait, "wait", f.wait, "with --detach: how long to wait for that")
	run.StringVar(&f.user, "user", "", "run as this user, but for what needs root (default: who called sudo)")
	run.BoolVar(&f.rootless, "rootless", false, "do without root, and without what needs it")

	connections := pflag.NewFlagSet("", pflag.ContinueOnError)
	connections.DurationVar(&f.hold, "hold", f.hold, "how long a connection waits for a pod that can take it; 0: not at all")
	connections.Var(&f.balance, "balance", "which ready pod takes a connection: each in turn, the one with the fewest, or the first by name")
	connections.Var(&f.transport, "transport", "to the API server: spdy, websocket, or auto for the faster that gets through")
	connections.DurationVar(&f.drain, "drain", f.drain, "how long open connections may go on when kubeshore is stopped; 0: not at all")

	look := pflag.NewFlagSet("", pflag.ContinueOnError)
	look.StringVar(&f.metrics, "metrics", "", "serve metrics for Prometheus at this address too, as 127.0.0.1:9090")
	look.StringVar(&f.logFormat, "log-format", f.logFormat, "text or json")
	look.CountVarP(&f.verbose, "verbose", "v", "log each connection; twice: client-go too")

	return []flagGroup{{"What is forwarded", what}, {"Names, addresses and ports", where}, {"How it runs", run}, {"Connections", connections}, {"Log and metrics", look}}
}

// check finds what is wrong with the flags by themselves. One without a value is
// most likely a variable that isn't set.
func (f *upFlags) check(flags *pflag.FlagSet) error {
	var empty error
	flags.Visit(func(flag *pflag.Flag) {
		if text := flag.Value.String(); text == "" || text == "[]" {
			empty = fmt.Errorf("--%s needs a value", flag.Name)
		}
	})
	if empty != nil {
		return empty
	}
	if f.logFormat != formatText && f.logFormat != formatJSON {
		return fmt.Errorf("--log-format %s: it is text or json", f.logFormat)
	}
	if flags.Changed("wait") && !f.detach {
		return errors.New("--wait is for --detach; kubeshore wait waits for one that runs")
	}
	if f.metrics != "" {
		if _, _, err := net.SplitHostPort(f.metrics); err != nil {
			return fmt.Errorf("--metrics %s: it is an address with a port, as 127.0.0.1:9090", f.metrics)
		}
	}
	if f.wait < 0 {
		return fmt.Errorf("--wait %v is negative; 0 means not to wait", f.wait)
	}
	if f.hold < 0 {
		return fmt.Errorf("--hold %v is negative; 0 means that no connection waits", f.hold)
	}
	if f.drain < 0 {
		return fmt.Errorf("--drain %v is negative; 0 means that open connections are reset at once", f.drain)
	}
	if _, err := f.privileges().prefixes(); err != nil {
		return err
	}
	var err error
	if f.hostsFile, err = filepath.Abs(f.hostsFile); err != nil { // a keeper is in another folder
		return err
	}
	if f.rootless && f.user != "" {
		return errors.New("--rootless and --user exclude each other")
	}
	return f.selection.check()
}

// privileges returns what is asked of root.
func (f *upFlags) privileges() privileges {
	return privileges{ranges: f.ranges, hostsFile: f.hostsFile, listen: f.listen, owner: userID()}
}

// up forwards until it is told to end, and returns when the machine is as it
// was. Faults that are found before anything was changed end it at once.
func up(ctx context.Context, f upFlags, log *logrus.Logger, open func(context.Context) (machine, error)) (err error) {
	started := time.Now()
	signals := notify(log)
	defer signals.stop()

	reserved, notes, err := reserved(f.conf, f.reservations)
	if err != nil {
		return usage(err)
	}
	f.reserved = reserved
	for _, note := range append(f.notes, notes...) { // here, as a keeper reads the flags too
		log.Warn(note)
	}
	if err := noticeSilence(); err != nil {
		return err
	}
	wanted, err := newWanted(f.selection, f.kubeconfig, f.config, log)
	if err != nil {
		return err
	}
	api, err := openAPI(ctx, &f, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, api.close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	abort, cutShort := context.WithCancel(context.WithoutCancel(ctx))
	defer cutShort()
	daemon := &running{flags: &f, wanted: wanted, dialer: tunnel.New(wanted.find, f.transport), started: started, end: cancel}
	metrics := controlserver.NewMetrics(version(), daemon.Status)
	daemon.engine = f.newEngine(daemon, metrics, log)
	var beside sync.WaitGroup
	defer beside.Wait()
	finished := make(chan struct{})
	defer close(finished)
	beside.Go(func() { signals.relay(finished, func() { daemon.quit() }, cutShort) })
	serving, served := context.WithCancel(context.WithoutCancel(ctx))
	defer served()
	beside.Go(func() { api.serve(serving, daemon, metrics) }) // already while sudo asks for a password
	return f.forward(ctx, abort, daemon, func(ctx context.Context) (machine, error) {
		m, err := open(ctx)
		if err == nil && api.lacks != "" {
			log.Warn(api.lacks)
		}
		return m, err
	}, log)
}

// forward forwards until ctx ends, once what changes the machine is open.
func (f *upFlags) forward(ctx, abort context.Context, daemon *running, open func(context.Context) (machine, error), log *logrus.Logger) (err error) {
	m, err := open(ctx)
	if err != nil && ctx.Err() != nil {
		return nil // told to end before there was anything to take back
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	pool, err := f.newPool(log)
	if err != nil {
		return err
	}
	if m.names != nil {
		daemon.names.Store(&m.names)
	}
	e := daemon.engine
	e.Addresses, e.Aliases, e.Ports, e.Names = pool, m.aliases, listen.New(m.ports), m.names
	if err := f.runShown(log, daemon, func() error { return run(ctx, abort, daemon, m) }); err != nil {
		return err
	}
	log.Info("everything is taken back")
	return nil
}

// runShown calls run, while a terminal's last line says what stands.
func (f *upFlags) runShown(log *logrus.Logger, daemon *running, run func() error) error {
	view := viewOf(log)
	if view == nil || f.detach {
		return run()
	}
	var showing sync.WaitGroup
	defer showing.Wait()
	over := make(chan struct{})
	defer close(over)
	showing.Go(func() { view.run(over, daemon) })
	return run()
}

// newEngine returns what forwards, but for what changes the machine.
func (f *upFlags) newEngine(daemon *running, metrics *controlserver.Metrics, log *logrus.Logger) *fwd.Engine {
	return &fwd.Engine{
		Options: daemon.wanted.options,
		Source:  daemon.wanted.source,
		Dialer:  daemon.dialer,
		Log:     log,
		Hold:    f.hold,
		Balance: f.balance,
		Drain:   f.drain,
		Gone:    listen.Orphaned,
		Meter:   metrics,
	}
}

// newPool returns what gives services their addresses.
func (f *upFlags) newPool(log logrus.FieldLogger) (*loopback.Pool, error) {
	prefixes, err := f.privileges().prefixes()
	if err != nil {
		return nil, err
	}
	folder, err := stateFolder()
	if err != nil {
		return nil, fmt.Errorf("folder for what is remembered: %w", err)
	}
	memory := loopback.OpenMemory(filepath.Join(folder, "addresses.json"), func(err error) { log.Warn(err) })
	// Who has another hosts file has other addresses: two runs of a user's at once would
	// else take each other's connections.
	owner := userID()
	if f.hostsFile != hosts.DefaultPath() {
		owner += " " + f.hostsFile
	}
	return loopback.NewPool(prefixes, owner, memory)
}

// noticeSilence has client-go's watches notice within five seconds that the
// API server is gone, as it is after the machine has slept or a VPN changed;
// without it they need 45. client-go takes it from the environment only; what
// the user has set there stands.
func noticeSilence() error {
	for name, seconds := range map[string]string{"HTTP2_READ_IDLE_TIMEOUT_SECONDS": "3", "HTTP2_PING_TIMEOUT_SECONDS": "2"} {
		if os.Getenv(name) == "" {
			if err := os.Setenv(name, seconds); err != nil {
				return err
			}
		}
	}
	return nil
}

// run lets the parts run until ctx ends or one of them fails. The dialer goes
// and what changes the machine go last: the engine drains connections and takes
// everything back by them.
func run(ctx, abort context.Context, daemon *running, m machine) error {
	wanted, dialer, engine := daemon.wanted, daemon.dialer, daemon.engine
	running, ctx := errgroup.WithContext(ctx)
	dialing, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	running.Go(func() error { return wanted.source.Run(ctx) })
	running.Go(func() error { return wanted.watch(ctx) })
	running.Go(func() error { return dialer.Run(dialing) })
	if daemon.flags.ready != nil {
		running.Go(func() error { return daemon.flags.ready(ctx, daemon) })
	}
	if m.run != nil {
		running.Go(func() error { return m.run(dialing) })
	}
	running.Go(func() error {
		defer hangUp()
		if err := wanted.source.Ready(ctx); err != nil {
			if ctx.Err() != nil {
				return nil // told to end before there was anything to take back
			}
			return err
		}
		engine.Log.Infof("kubeconfig %s", strings.Join(wanted.files(), ", "))
		if wanted.now.Load().project {
			engine.Log.Infof("project's file %s", wanted.project)
		}
		wanted.announce()
		engine.Log.Infof("ports: %s", m.ports.How())
		if m.lacks != "" {
			engine.Log.Warn(m.lacks)
		}
		return engine.Run(ctx, abort)
	})
	err := running.Wait()
	if n := dialer.Stalled(); n > 0 {
		engine.Log.Warnf("connections that were reset as their clients didn't read while others waited: %d", n)
	}
	return err
}

// distinct returns the values in their order, each once.
func distinct(values []string) []string {
	var result []string
	for _, v := range values {
		if !slices.Contains(result, v) {
			result = append(result, v)
		}
	}
	return result
}
