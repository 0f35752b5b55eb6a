package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/kubeshore/kubeshore/internal/project"
	"github.com/kubeshore/kubeshore/pkg/hosts"
	"github.com/kubeshore/kubeshore/pkg/loopback"
)

// meaningless are kubefwd's flags that have no meaning here, with the reason.
var meaningless = map[string]string{
	"timeout":         "a connection lasts as long as its two ends want",
	"refresh-backup":  "there is no backup, as every byte of the hosts file that isn't kubeshore's own is kept",
	"purge-stale-ips": "what a killed run left behind is always taken away first",
	"resync-interval": "every change is followed at once",
	"retry-interval":  "every change is followed at once",
	"auto-reconnect":  "it always does",
	"tui":             "the log has a line for each change",
	"theme":           "the log has a line for each change",
	"api":             "there always is one, on a unix socket: kubeshore ps --help",
	"mcp":             "there is no such server",
}

// newSvc returns the command that takes a kubefwd user's command line.
func newSvc(streams Streams) *cobra.Command {
	f := defaults()
	var verbose bool
	cmd := &cobra.Command{
		Use:     "svc",
		Aliases: []string{"svcs", "services"},
		Short:   "Forward services, with kubefwd's flags",
		Long: `Forward services as up does, with a command line that was written for kubefwd's
svc. Flags that have no meaning here are accepted, and a line says so.`,
		Example: "  sudo -E kubeshore svc -n shop -l app=web -m 80:8080 -d internal",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// The file is read later, by the user's own process.
			if f.conf != "" || len(f.reservations) > 0 {
				for _, usable := range loopback.Usable() {
					f.ranges = append(f.ranges, usable.String())
				}
			}
			if verbose {
				f.verbose = 1
			}
			if f.all { // kubefwd takes the two together
				f.namespaces = nil
			}
			if err := f.check(cmd.Flags()); err != nil {
				return usage(err)
			}
			cmd.Flags().Visit(func(flag *pflag.Flag) {
				if reason, ok := meaningless[flag.Name]; ok {
					f.notes = append(f.notes, fmt.Sprintf("--%s has no meaning here: %s", flag.Name, reason))
				}
			})
			shown := newScreen(streams.Err)
			return shown.during(func() error { return startShown(cmd.Context(), f, shown, newLog(shown, formatText, f.verbose)) })
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.VarP((*list)(&f.namespaces), "namespace", "n", "namespaces to forward (default: the context's)")
	flags.BoolVarP(&f.all, "all-namespaces", "A", false, "forward all namespaces")
	flags.VarP((*list)(&f.contexts), "context", "x", "contexts of the kubeconfig (default: the current one)")
	flags.StringVarP(&f.kubeconfig, "kubeconfig", "c", "", "kubeconfig file (default: KUBECONFIG or ~/.kube/config)")
	flags.StringVarP(&f.selector, "selector", "l", "", "forward services with these labels only")
	flags.StringVarP(&f.fieldSelector, "field-selector", "f", "", "forward services with these fields only")
	flags.StringVarP(&f.domain, "domain", "d", "", "one more suffix for every short name")
	flags.VarP((*list)(&f.mapping), "mapping", "m", "have a port of services on another one here, as 80:8080")
	flags.VarP((*list)(&f.reservations), "reserve", "r", "address of a service, as name.namespace:127.3.3.1")
	flags.StringVarP(&f.conf, "fwd-conf", "z", "", "file with services' addresses, as kubefwd has it")
	flags.StringVar(&f.hostsFile, "hosts-path", hosts.DefaultPath(), "hosts file to write the names to")
	flags.BoolVarP(&verbose, "verbose", "v", false, "log each connection")
	defineMeaningless(flags)
	completeFlags(cmd)
	return cmd
}

// defineMeaningless defines the flags that have no meaning here. They are left
// out of the help.
func defineMeaningless(flags *pflag.FlagSet) {
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
	for name := range meaningless {
		flags.Lookup(name).Hidden = true
	}
}

// fwdConf is kubefwd's file of addresses.
type fwdConf struct {
	Base     string `yaml:"baseUnreservedIP"` // the first of kubefwd's other addresses; ours follow from services' names
	Services []struct {
		Name string `yaml:"name"`
		IP   string `yaml:"ip"`
	} `yaml:"serviceConfigurations"`
}

// reserved returns the addresses of services that kubefwd's file and flags say;
// flags go before it. notes are what of the file has no effect, a line each.
func reserved(conf string, reservations []string) (addresses map[string]netip.Addr, notes []string, err error) {
	addresses = make(map[string]netip.Addr)
	add := func(name, address string) error {
		at, err := netip.ParseAddr(address)
		if err != nil || name == "" {
			return errors.New("write name.namespace:127.3.3.1")
		}
		addresses[name] = at
		return nil
	}
	if conf != "" {
		var file fwdConf
		if file, notes, err = readConf(conf); err != nil {
			return nil, nil, fmt.Errorf("--fwd-conf: %w", err)
		}
		for _, s := range file.Services {
			if err := add(s.Name, s.IP); err != nil {
				return nil, nil, fmt.Errorf("--fwd-conf %s: %q at %q: a service needs a name and an IPv4 address", conf, s.Name, s.IP)
			}
		}
	}
	for _, text := range reservations {
		name, address, _ := strings.Cut(text, ":")
		if err := add(name, address); err != nil {
			return nil, nil, fmt.Errorf("--reserve %q: %w", text, err)
		}
	}
	return addresses, notes, nil
}

// readConf reads kubefwd's file, and notes what of it has no effect.
func readConf(path string) (file fwdConf, notes []string, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return file, nil, err
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		return file, nil, errors.New(strings.Join(project.Faults(path, err), "; "))
	}
	if file.Base != "" {
		notes = append(notes, "--fwd-conf "+path+": baseUnreservedIP has no meaning here: the other services' addresses follow from their names")
	}
	// That it can be read is known: what it has besides is what is wrong.
	strict := yaml.NewDecoder(bytes.NewReader(data))
	strict.KnownFields(true)
	if err := strict.Decode(new(fwdConf)); err != nil && !errors.Is(err, io.EOF) {
		for _, fault := range project.Faults(path, err) {
			notes = append(notes, "--fwd-conf "+fault+"; it is ignored")
		}
	}
	return file, notes, nil
}
