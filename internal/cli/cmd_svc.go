package cli

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kubeshore/kubeshore/internal/config"
	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/pkg/loopback"
)

// ignoredFlags are kubefwd's flags that have no effect, with the reason.
var ignoredFlags = map[string]string{
	"timeout":         "a connection lasts as long as its two ends want",
	"refresh-backup":  "there is no backup, because all other lines of the hosts file are kept",
	"purge-stale-ips": "leftovers of a killed run are always removed at the start",
	"resync-interval": "changes are followed at once",
	"retry-interval":  "changes are followed at once",
	"auto-reconnect":  "kubeshore always reconnects",
	"tui":             "changes are logged instead",
	"theme":           "changes are logged instead",
	"api":             "the API is always available, on a unix socket",
	"mcp":             "there is no MCP server",
}

// newSvc returns the command that accepts a kubefwd user's command line.
func newSvc(streams Streams) *cobra.Command {
	f := newUpFlags()
	var reservations []string
	var verbose bool
	cmd := &cobra.Command{
		Use:     "svc",
		Aliases: []string{"svcs", "services"},
		Short:   "Forward services, with kubefwd's flags",
		Long: `Forward services like up, with the flags of kubefwd's svc command. kubefwd flags
that have no effect are ignored with a warning.`,
		Example: "  sudo -E kubeshore svc -n shop -l app=web -m 80:8080 -d internal",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := &f.daemon.Config
			if c.Spec.AllNamespaces { // kubefwd accepts both flags
				c.Spec.Namespaces = nil
			}
			if verbose {
				f.launch.Verbosity = 1
			}
			if c.KubefwdFile != "" || len(reservations) > 0 { // their addresses may be anywhere
				for _, usable := range loopback.UsableRanges() {
					f.prefixes = append(f.prefixes, usable.String())
				}
			}
			err := f.parse(cmd.Flags())
			if err == nil {
				c.Spec.Addresses, err = config.ParseAddresses(reservations)
			}
			if err != nil {
				return failure.Usage(err)
			}
			cmd.Flags().Visit(func(flag *pflag.Flag) {
				if reason, ok := ignoredFlags[flag.Name]; ok {
					f.daemon.Notes = append(f.daemon.Notes, fmt.Sprintf("--%s is ignored: %s", flag.Name, reason))
				}
			})
			return f.run(cmd.Context(), streams)
		},
	}
	flags, spec := cmd.Flags(), &f.daemon.Config.Spec
	flags.SortFlags = false
	f.defineShared(flags)
	flags.StringVarP(&f.daemon.Config.Kubeconfig, "kubeconfig", "c", "", kubeconfigUsage)
	flags.StringVarP(&spec.LabelSelector, "selector", "l", "", selectorUsage)
	flags.StringVarP(&spec.FieldSelector, "field-selector", "f", "", fieldSelectorUsage)
	flags.StringVarP(&spec.Domain, "domain", "d", "", domainUsage)
	flags.VarP((*commaList)(&f.mapping), "mapping", "m", mappingUsage)
	flags.VarP((*commaList)(&reservations), "reserve", "r", "reserve an address for a service, e.g. db.data:127.3.3.1")
	flags.StringVarP(&f.daemon.Config.KubefwdFile, "fwd-conf", "z", "", "kubefwd's configuration file with service addresses")
	flags.StringVar(&f.daemon.Machine.HostsFile, "hosts-path", f.daemon.Machine.HostsFile, hostsFileUsage)
	flags.BoolVarP(&verbose, "verbose", "v", false, "log every connection")
	defineIgnored(flags)
	completeFlags(cmd)
	return cmd
}

// defineIgnored defines the flags without effect, which the help doesn't show.
func defineIgnored(flags *pflag.FlagSet) {
	flags.IntP("timeout", "t", 0, "")
	flags.BoolP("refresh-backup", "b", false, "")
	flags.BoolP("purge-stale-ips", "p", false, "")
	flags.BoolP("auto-reconnect", "a", false, "")
	flags.Duration("resync-interval", 0, "")
	flags.Duration("retry-interval", 0, "")
	flags.Bool("tui", false, "")
	flags.Bool("api", false, "")
	flags.Bool("mcp", false, "")
	flags.String("theme", "", "")
	for name := range ignoredFlags {
		flags.Lookup(name).Hidden = true
	}
}
