// Package machine is the part of this machine that a daemon changes: ports,
// names and loopback addresses. It is opened with the rights of the process, by
// way of a keeper, or without root.
package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/internal/backoff"
	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/namepolicy"
	"github.com/kubeshore/kubeshore/internal/rootonly"
	"github.com/kubeshore/kubeshore/pkg/hosts"
	"github.com/kubeshore/kubeshore/pkg/listen"
	"github.com/kubeshore/kubeshore/pkg/loopback"
)

// Machine is an opened machine.
type Machine struct {
	Ports   listen.Taker
	Names   Names // nil: no names are written
	Aliases Aliases

	// Run must run while the machine is in use, until ctx ends. It may be nil.
	Run func(ctx context.Context) error
	// Notice tells the user about limitations or risks of the rights that the
	// machine was opened with. It may be empty.
	Notice string
	// NamesProcesses means that Ports finds out which process uses a port.
	NamesProcesses bool
	// Holds reports whether Ports has claimed an address. It may be nil.
	Holds func(netip.Addr) bool
	// NamePolicy is the policy that a keeper enforces; nil if there is no keeper.
	NamePolicy *namepolicy.Policy
	// Close releases the machine, which must have been restored before.
	Close func() error
}

// Names maps names to addresses, with a hosts file. Set and Changed are those of
// fwd.Names, which isn't imported here because root's half needs nothing else of it.
type Names interface {
	Set(ctx context.Context, table map[netip.Addr][]string) (refused map[string]error, err error)
	Changed() <-chan struct{}
	// Writes returns how often the hosts file was written.
	Writes() uint64
}

// Aliases adds loopback addresses, as fwd.Aliases.
type Aliases interface {
	Set(ctx context.Context, addrs []netip.Addr) error
}

// Options are the settings to open a machine with. A keeper gets them from its own
// command line, because that is the only input it trusts.
type Options struct {
	Prefixes  []netip.Prefix // where addresses may be; automatic ones are in the first
	HostsFile string         // absolute path
	Listen    listen.Mode
	Owner     string // ID of the user who owns the names
	Names     namepolicy.Policy
}

// ParsePrefixes parses the values of --cidr.
func ParsePrefixes(texts []string) ([]netip.Prefix, error) {
	prefixes := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("invalid --cidr %q: must be an IPv4 prefix, e.g. %v", text, loopback.DefaultPrefix)
		}
		if err := loopback.CheckPrefix(prefix); err != nil {
			return nil, fmt.Errorf("invalid --cidr %q: %w", text, err)
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes, nil
}

// OpenOwn opens the machine with the rights of this process, and cleans up after
// a killed run of the same user.
func OpenOwn(ctx context.Context, o Options, log logrus.FieldLogger) (Machine, error) {
	return openOwn(ctx, o, DNSCacheFlusher(log), log)
}

// openOwn implements [OpenOwn]. flush flushes the DNS cache.
func openOwn(ctx context.Context, o Options, flush func(context.Context), log logrus.FieldLogger) (Machine, error) {
	file, err := openHosts(ctx, o.HostsFile, o.Owner)
	if err != nil {
		return Machine{}, err
	}
	file.FlushDNSCache = flush
	if err := cleanLeftovers(ctx, file, o.HostsFile, o.Owner, log); err != nil {
		return Machine{}, errors.Join(err, file.Close())
	}
	ports, err := listen.Open(ctx, o.Listen)
	if err != nil {
		return Machine{}, errors.Join(err, file.Close())
	}
	_, each := ports.(*listen.Each)
	exclusive := withClaims(ports, o, log)
	ports = exclusive
	return Machine{
		Ports: ports, Holds: exclusive.holds, Names: file, Aliases: &loopback.Aliases{},
		NamesProcesses: each,

		Run:   watchHosts(file, log),
		Close: func() error { return errors.Join(ports.Close(), file.Close()) },
	}, nil
}

// OpenRootless opens the parts that are available without root. Its Notice lists the
// others.
func OpenRootless(ctx context.Context, o Options, log logrus.FieldLogger) (Machine, error) {
	ports, err := listen.Open(ctx, o.Listen)
	if err != nil {
		return Machine{}, err
	}
	_, each := ports.(*listen.Each)
	ports = withClaims(ports, o, log)
	m := Machine{Ports: ports, Aliases: &loopback.Aliases{}, Close: ports.Close}
	var missing []string
	if least := listen.UnprivilegedPortStart(); each && least > 1 && os.Geteuid() != 0 {
		missing = append(missing, fmt.Sprintf("no ports below %d", least))
	}
	if err := CheckHostsFile(o.HostsFile); err != nil {
		return Machine{}, errors.Join(err, ports.Close())
	}
	file, err := hosts.Open(o.HostsFile, o.Owner)
	switch {
	case errors.Is(err, fs.ErrPermission), hosts.IsReadOnly(err):
		missing = append(missing, fmt.Sprintf("no names, because %s is not writable: use the services' addresses", o.HostsFile))
	case err != nil:
		return Machine{}, errors.Join(err, ports.Close())
	default:
		if err := cleanLeftovers(ctx, file, o.HostsFile, o.Owner, log); err != nil {
			return Machine{}, errors.Join(err, file.Close(), ports.Close())
		}
		m.Names, m.Run = file, watchHosts(file, log)
		m.Close = func() error { return errors.Join(ports.Close(), file.Close()) }
	}
	if len(missing) > 0 {
		m.Notice = "running without root: " + strings.Join(missing, "; ")
	}
	return m, nil
}

// cleanLeftovers removes the names of killed runs from a hosts file, and logs lines
// that may be kubeshore's but are kept because they may also be the user's.
func cleanLeftovers(ctx context.Context, file *hosts.File, path, owner string, log logrus.FieldLogger) error {
	if _, err := file.Set(ctx, nil); err != nil {
		return err
	}
	stale, err := hosts.CleanStale(ctx, path, owner)
	for _, owner := range stale.Owners {
		log.Warnf("%s: removed the names of user %s, whose kubeshore no longer runs", path, owner)
	}
	if err = errors.Join(err, loopback.CleanAliases(ctx, stale.Addresses)); err != nil {
		return err
	}
	suspects, err := file.Suspects()
	if n := len(suspects); n > 0 {
		log.Warnf("%s: kept %d lines that look like kubeshore's but may be yours, e.g. %s", path, n, strings.Join(suspects[:min(n, 3)], ", "))
	}
	return err
}

// watchHosts returns a function that watches a hosts file and flushes the DNS
// cache after changes. A file that can't be watched is not an error.
func watchHosts(file *hosts.File, log logrus.FieldLogger) func(context.Context) error {
	return func(ctx context.Context) error {
		var flushing sync.WaitGroup
		defer flushing.Wait()
		flushing.Go(func() { file.FlushAfterWrites(ctx) })
		if err := file.Run(ctx); err != nil {
			log.Warnf("%v; changes by other programs are noticed only when a service changes", err)
		}
		return nil
	}
}

const (
	// hostsInUseTimeout is how long to wait for the previous run to release the
	// hosts file: its keeper exits after its daemon.
	hostsInUseTimeout = time.Second
	// hostsInUseInterval is how often that is tried.
	hostsInUseInterval = 20 * time.Millisecond
)

// CheckHostsFile returns an error if this process is root's, and others could change which
// file it writes: root would then write lines to a file of their choice.
func CheckHostsFile(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	err := rootonly.CheckDirs(path)
	switch {
	case err == nil:
		return nil
	case errors.As(err, new(*fs.PathError)): // e.g. a missing directory
		return failure.WithHint(fmt.Errorf("hosts file %s: %w", path, err), hostsFileRemedy(path, err))
	}
	return failure.WithHint(fmt.Errorf("hosts file %s: %w", path, err), "as root, use a hosts file in a directory that only root can write to, like /etc")
}

// openHosts opens the hosts file.
func openHosts(ctx context.Context, path, owner string) (*hosts.File, error) {
	if err := CheckHostsFile(path); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(hostsInUseTimeout)
	file, err := hosts.Open(path, owner)
	for errors.Is(err, hosts.ErrInUse) && time.Now().Before(deadline) && backoff.Sleep(ctx, hostsInUseInterval) == nil {
		file, err = hosts.Open(path, owner)
	}
	switch {
	case err == nil || errors.Is(err, hosts.ErrInUse):
		return file, err
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		return nil, failure.WithHint(err, "run sudo kubeshore up")
	default:
		return nil, failure.WithHint(err, hostsFileRemedy(path, err))
	}
}

// hostsFileRemedy returns a hint for a hosts file that can't be used because of err.
func hostsFileRemedy(path string, err error) string {
	target, _ := filepath.EvalSymlinks(path)
	switch {
	case strings.HasPrefix(target, "/nix/store/"):
		return `on NixOS, set environment.etc.hosts.mode = "0644" in configuration.nix, so that the hosts file is a copy`
	case hosts.IsReadOnly(err):
		return "remount its file system writable, or use --hosts-file FILE to write the names to another file"
	}
	return "the hosts file must be a writable file"
}
