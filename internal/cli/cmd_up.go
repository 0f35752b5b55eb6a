package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kubeshore/kubeshore/internal/config"
	"github.com/kubeshore/kubeshore/internal/daemon"
	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/launch"
	"github.com/kubeshore/kubeshore/internal/machine"
	"github.com/kubeshore/kubeshore/internal/term"
	"github.com/kubeshore/kubeshore/internal/userdirs"
	"github.com/kubeshore/kubeshore/pkg/hosts"
	"github.com/kubeshore/kubeshore/pkg/loopback"
)

// upFlags are the flags of up and svc. Most set an option directly; parse sets the
// others.
type upFlags struct {
	launch launch.Options
	daemon daemon.Options
	detach bool

	mapping  []string
	prefixes []string
}

// newUpFlags returns the flags with their defaults.
func newUpFlags() *upFlags {
	return &upFlags{
		launch: launch.Options{WaitTimeout: 30 * time.Second},
		daemon: daemon.Options{
			Machine: machine.Options{HostsFile: hosts.DefaultPath()},
			Hold:    10 * time.Second, Drain: time.Second, Format: term.Text,
		},
		prefixes: []string{loopback.DefaultPrefix.String()},
	}
}

func newUp(streams Streams) *cobra.Command {
	f := newUpFlags()
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Forward services until stopped",
		Long: `Forward every service of the given namespaces to this machine until stopped by
Ctrl-C, SIGTERM, SIGQUIT or SIGHUP; then clean up. The services of the first
namespace are also reachable by their short names.

A project file, kubeshore.yaml in this directory or above, can also select and
configure services; flags take precedence. If it chooses other contexts or adds
names, kubeshore asks you to confirm that once.

kubeshore needs root for the hosts file and for ports, and asks for it with sudo;
everything else, including credential plugins, runs as you.`,
		Example: `  kubeshore up                         # the current context's namespace
  kubeshore up -n shop,data            # then: curl http://go-ok, psql -h db-0.db.data
  kubeshore up -A -x dev,staging       # all namespaces of two clusters
  kubeshore up --include 'web*,db.data' -m 80:8080
  kubeshore up -d                      # in the background; then kubeshore ps, logs, down
  sudo -E kubeshore up                 # run sudo yourself; -E preserves KUBECONFIG`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.parse(cmd.Flags()); err != nil {
				return failure.Usage(err)
			}
			if f.launch.IsBackground() {
				return launch.Background(cmd.Context(), f.launch, f.daemon)
			}
			return f.run(cmd.Context(), streams)
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

// run runs the daemon that the flags describe, or starts it in the background.
func (f *upFlags) run(ctx context.Context, streams Streams) error {
	out := term.NewAsyncWriter(streams.Err)
	return out.Run(func() error {
		log, view := term.NewLog(out, f.daemon.Format, f.launch.Verbosity)
		f.daemon.Terminal = out
		if f.detach {
			return failure.Report(out, launch.Detach(ctx, f.launch, f.daemon, out, view, log))
		}
		// Without a reader nobody would notice that kubeshore runs, as with head(1).
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		out.OnBroken(cancel)
		f.daemon.View = view
		return failure.Report(out, launch.Foreground(ctx, f.launch, f.daemon, log))
	})
}

// flagGroup is a group of flags in the help.
type flagGroup struct {
	title string
	flags *pflag.FlagSet
}

// groups defines the flags.
func (f *upFlags) groups() []flagGroup {
	spec, d := &f.daemon.Config.Spec, &f.daemon
	selection := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.defineShared(selection)
	selection.StringVar(&d.Config.Kubeconfig, "kubeconfig", "", kubeconfigUsage)
	selection.StringVarP(&spec.LabelSelector, "selector", "l", "", selectorUsage)
	selection.StringVarP(&spec.FieldSelector, "field-selector", "f", "", fieldSelectorUsage)
	selection.Var((*commaList)(&spec.Include), "include", "only forward services that match these NAME or NAME.NAMESPACE patterns")
	selection.Var((*commaList)(&spec.Exclude), "exclude", "don't forward services that match these patterns")
	selection.StringVar(&d.Config.ProjectFile, "config", "", "project file (default: kubeshore.yaml in this directory or above)")

	names := pflag.NewFlagSet("", pflag.ContinueOnError)
	names.VarP((*commaList)(&f.mapping), "mapping", "m", mappingUsage)
	names.StringVar(&spec.Domain, "domain", "", domainUsage)
	names.Var(&spec.Names, "names", "names to resolve: full ones (…svc.cluster.local, …svc) and short ones, or full ones only")
	names.Var((*commaList)(&spec.PublicNames), "public-names", "patterns of short names to resolve although they could hide public names, e.g. '*.dev' (default: names in the given namespaces and contexts)")
	names.Var((*commaList)(&spec.Ingress), "ingress", "patterns of Ingress hosts to resolve to their ingress controller's service, e.g. '*.test.example.com', or '*' for all")
	names.StringSliceVar(&f.prefixes, "cidr", f.prefixes, "loopback ranges for service addresses; automatic addresses come from the first")
	names.StringVar(&d.Machine.HostsFile, "hosts-file", d.Machine.HostsFile, hostsFileUsage)
	names.Var(&d.Machine.Listen, "listen", "how to listen: with one socket for all ports (lookup), one per port (each), or lookup if available, otherwise each (auto)")

	process := pflag.NewFlagSet("", pflag.ContinueOnError)
	process.BoolVarP(&f.detach, "detach", "d", false, "run in the background once all services are ready, or after --wait")
	process.DurationVar(&f.launch.WaitTimeout, "wait", f.launch.WaitTimeout, "with --detach: how long to wait for services to become ready")
	process.StringVar(&f.launch.User, "user", "", "user to run as, except for what needs root (default: the user who invoked sudo)")
	process.BoolVar(&f.launch.Rootless, "rootless", false, "run without root: no privileged ports, and no names unless the hosts file is writable")

	connections := pflag.NewFlagSet("", pflag.ContinueOnError)
	connections.DurationVar(&d.Hold, "hold", d.Hold, "how long a new connection waits for a ready pod (0 to disable)")
	connections.Var(&d.For, "for", "whose connections to accept: the user's and root's (me), or those of all users of this machine (everyone) (default: me; everyone for root without sudo)")
	connections.Var(&d.Balance, "balance", "how to choose a ready pod: in turn (round-robin), with the fewest connections (least), or by name (first)")
	connections.Var(&d.Transport, "transport", "protocol to the API server: spdy, websocket, or the faster one that works (auto)")
	connections.DurationVar(&d.Drain, "drain", d.Drain, "grace period for open connections on shutdown (0 to disable)")

	output := pflag.NewFlagSet("", pflag.ContinueOnError)
	output.StringVar(&d.Metrics, "metrics", "", "serve Prometheus metrics on this address, in addition to the API socket, e.g. 127.0.0.1:9090")
	output.Var(&d.Format, "log-format", "log format")
	output.CountVarP(&f.launch.Verbosity, "verbose", "v", "log every connection (-vv: client-go as well)")

	return []flagGroup{{"Selection", selection}, {"Names, addresses and ports", names}, {"Process", process}, {"Connections", connections}, {"Log and metrics", output}}
}

// The help of flags that up and svc have in common.
const (
	kubeconfigUsage    = "kubeconfig file (default: KUBECONFIG or ~/.kube/config)"
	selectorUsage      = "only forward services that match this label selector, e.g. app=web"
	fieldSelectorUsage = "only forward services that match this field selector, e.g. metadata.name=web"
	mappingUsage       = "map a service port to a different local port (SERVICE_PORT:LOCAL_PORT), e.g. 80:8080"
	domainUsage        = "also append this suffix to the names NAME and NAME.NAMESPACE"
	hostsFileUsage     = "hosts file to write the names to"
)

// defineShared defines the flags that up and svc spell the same.
func (f *upFlags) defineShared(flags *pflag.FlagSet) {
	spec := &f.daemon.Config.Spec
	flags.VarP((*commaList)(&spec.Namespaces), "namespace", "n", "namespaces to forward, separated by commas (default: the context's)")
	flags.BoolVarP(&spec.AllNamespaces, "all-namespaces", "A", false, "forward all namespaces")
	flags.VarP((*commaList)(&spec.Contexts), "context", "x", "contexts of the kubeconfig, separated by commas (default: the current one)")
}

// parse checks the flags and parses those that set no option directly. It does
// not depend on anything but the command line.
func (f *upFlags) parse(flags *pflag.FlagSet) error {
	if err := checkEmpty(flags); err != nil {
		return err
	}
	if err := f.checkRun(flags); err != nil {
		return err
	}
	d := &f.daemon
	if d.Metrics != "" {
		if _, _, err := net.SplitHostPort(d.Metrics); err != nil {
			return fmt.Errorf("invalid --metrics %q: must be HOST:PORT, e.g. 127.0.0.1:9090", d.Metrics)
		}
	}
	var err error
	if d.Machine.Prefixes, err = machine.ParsePrefixes(f.prefixes); err != nil {
		return err
	}
	if d.Machine.HostsFile, err = filepath.Abs(d.Machine.HostsFile); err != nil { // a keeper has another working directory
		return err
	}
	d.Machine.Owner = userdirs.UserID()
	if d.Config.Allowed, err = allowedFile(); err != nil {
		return err
	}
	if d.Config.Spec.Ports, err = config.ParsePorts(f.mapping); err != nil {
		return err
	}
	if err := d.Config.Spec.Check(); err != nil {
		return err
	}
	d.Machine.Names = d.Config.Spec.KeeperNames()
	return nil
}

// checkEmpty returns an error for a flag with an empty value, which is most likely
// an unset shell variable.
func checkEmpty(flags *pflag.FlagSet) (err error) {
	flags.Visit(func(flag *pflag.Flag) {
		if text := flag.Value.String(); text == "" || text == "[]" {
			err = fmt.Errorf("invalid --%s: must not be empty", flag.Name)
		}
	})
	return err
}

// checkRun checks the flags that determine how kubeshore runs.
func (f *upFlags) checkRun(flags *pflag.FlagSet) error {
	if flags.Changed("wait") && !f.detach {
		return failure.WithHint(errors.New("--wait needs --detach"), "to wait for a running kubeshore use kubeshore wait")
	}
	if f.launch.Rootless && f.launch.User != "" {
		return errors.New("--rootless and --user are mutually exclusive")
	}
	for _, duration := range []struct {
		flag  string
		value time.Duration
	}{{"wait", f.launch.WaitTimeout}, {"hold", f.daemon.Hold}, {"drain", f.daemon.Drain}} {
		if duration.value < 0 {
			return fmt.Errorf("invalid --%s \"%v\": must not be negative", duration.flag, duration.value)
		}
	}
	return nil
}
