package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/validation"

	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/hosts"
	"github.com/kubeshore/kubeshore/pkg/kube"
	"github.com/kubeshore/kubeshore/pkg/listen"
	"github.com/kubeshore/kubeshore/pkg/loopback"
	"github.com/kubeshore/kubeshore/pkg/tunnel"
)

// upFlags is what `kubeshore up` is told.
type upFlags struct {
	namespaces []string
	context    string
	kubeconfig string
	hostsFile  string
	transport  tunnel.Transport
	hold       time.Duration
	balance    fwd.Balance
	drain      time.Duration
	verbose    int
}

func newUp(streams Streams) *cobra.Command {
	var f upFlags
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Forward services until stopped",
		Long: `Forward every service of the namespaces to this machine until stopped by Ctrl-C,
SIGTERM, SIGQUIT or SIGHUP; then take everything back. The services of the first
namespace answer to their bare names too.

It needs root, for the hosts file and for ports below 1024.`,
		Example: `  sudo kubeshore up                         # the current context's namespace
  sudo kubeshore up -n shop,data            # then: curl http://go-ok, curl http://db-0.db.data:5432
  sudo -E kubeshore up -n shop -x staging   # -E keeps your KUBECONFIG`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(cmd.Flags().Changed("namespace")); err != nil {
				return usage(err)
			}
			return up(cmd.Context(), f, newLog(streams.Err, f.verbose))
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVarP(&f.namespaces, "namespace", "n", nil, "namespaces to forward, separated by commas (default: the context's)")
	flags.StringVarP(&f.context, "context", "x", "", "context of the kubeconfig (default: the current one)")
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig file (default: KUBECONFIG or ~/.kube/config)")
	flags.StringVar(&f.hostsFile, "hosts-file", hosts.DefaultPath(), "hosts file to write the names to")
	flags.Var(&f.transport, "transport", "to the API server: spdy, websocket, or auto for the faster that gets through")
	flags.DurationVar(&f.hold, "hold", 10*time.Second, "how long a connection waits for a pod that can take it; 0: not at all")
	flags.Var(&f.balance, "balance", "which ready pod takes a connection: each in turn, the one with the fewest, or the first by name")
	flags.DurationVar(&f.drain, "drain", time.Second, "how long open connections may go on when kubeshore is stopped; 0: not at all")
	flags.CountVarP(&f.verbose, "verbose", "v", "log each connection; twice: client-go too")
	return cmd
}

// check finds what is wrong with the flags by themselves. An empty --namespace
// is most likely a variable that isn't set.
func (f *upFlags) check(namespaceGiven bool) error {
	if namespaceGiven && len(f.namespaces) == 0 {
		return errors.New("--namespace needs a name")
	}
	for _, namespace := range f.namespaces {
		if problems := validation.ValidateNamespaceName(namespace, false); len(problems) > 0 {
			return fmt.Errorf("namespace %q is not a valid name: lower-case letters, digits and '-', 63 at most", namespace)
		}
	}
	if f.hostsFile == "" {
		return errors.New("--hosts-file needs a path")
	}
	if f.hold < 0 {
		return fmt.Errorf("--hold %v is negative; 0 means that no connection waits", f.hold)
	}
	if f.drain < 0 {
		return fmt.Errorf("--drain %v is negative; 0 means that open connections are reset at once", f.drain)
	}
	return nil
}

// up forwards until it is told to end, and returns when the machine is as it
// was. Faults that are found before anything was changed end it at once.
func up(ctx context.Context, f upFlags, log *logrus.Logger) (err error) {
	signals := notify(log)
	defer signals.stop()

	if err := noticeSilence(); err != nil {
		return err
	}
	cluster, err := kube.Load(f.kubeconfig, f.context, userAgent())
	if err != nil {
		return err
	}
	namespaces := distinct(f.namespaces)
	if len(namespaces) == 0 {
		namespaces = []string{cluster.Namespace}
	}
	file, err := openHosts(f.hostsFile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.Set(ctx, nil); err != nil { // what a killed run left behind
		return err
	}
	pool, err := loopback.NewPool(loopback.DefaultPrefix)
	if err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	abort, cutShort := context.WithCancel(context.WithoutCancel(ctx))
	defer cutShort()
	var peers errgroup.Group
	finished := make(chan struct{})
	peers.Go(func() error {
		signals.relay(finished, cancel, cutShort)
		return nil
	})
	peers.Go(func() error {
		defer close(finished)
		watcher, err := kube.NewWatcher(ctx, cluster, namespaces, log)
		if err != nil {
			if ctx.Err() != nil {
				return nil // told to end before there was anything to take back
			}
			return err
		}
		log.Infof("context %s (%s), namespaces %s", cluster.Context, cluster.Server(), strings.Join(namespaces, ", "))
		dialer, err := tunnel.New(map[string]tunnel.Cluster{cluster.Context: {Config: cluster.Config, Gate: cluster.Gate}}, f.transport)
		if err != nil {
			return err
		}
		engine := &fwd.Engine{
			Options:   fwd.Options{Context: cluster.Context, Namespace: namespaces[0]},
			Source:    watcher,
			Dialer:    dialer,
			Addresses: pool,
			Aliases:   &loopback.Aliases{},
			Ports:     listen.NewEach(),
			Names:     file,
			Log:       log,
			Hold:      f.hold,
			Balance:   f.balance,
			Drain:     f.drain,
			Gone:      listen.Orphaned,
		}
		return run(ctx, abort, watcher, dialer, engine)
	})
	if err := peers.Wait(); err != nil {
		return err
	}
	log.Info("everything is taken back")
	return nil
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
// last: it has the connections that the engine drains.
func run(ctx, abort context.Context, watcher *kube.Watcher, dialer *tunnel.Dialer, engine *fwd.Engine) error {
	running, ctx := errgroup.WithContext(ctx)
	dialing, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	running.Go(func() error { return watcher.Run(ctx) })
	running.Go(func() error { return dialer.Run(dialing) })
	running.Go(func() error {
		defer hangUp()
		return engine.Run(ctx, abort)
	})
	err := running.Wait()
	if n := dialer.Stalled(); n > 0 {
		engine.Log.Warnf("connections that were reset as their clients didn't read while others waited: %d", n)
	}
	return err
}

// openHosts takes the hosts file, and says what to do where that can't be.
func openHosts(path string) (*hosts.File, error) {
	file, err := hosts.Open(path)
	switch {
	case err == nil || errors.Is(err, hosts.ErrInUse):
		return file, err
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		return nil, fmt.Errorf("%w; kubeshore needs root: sudo kubeshore up", err)
	default:
		return nil, fmt.Errorf("%w; it must be a file that can be written", err)
	}
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
