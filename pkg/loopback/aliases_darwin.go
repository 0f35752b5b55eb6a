package loopback

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"

	"github.com/kubeshore/kubeshore/internal/netaddr"
)

// Aliases makes addresses reachable on this machine: macOS answers only on
// 127.0.0.1 and on aliases of the interface lo0. The zero value is ready to use.
// Aliases needs root, and is not safe for concurrent use.
type Aliases struct {
	aliases map[netip.Addr]bool // those to remove later; true if known to exist
}

// Set makes addrs the set of aliases. It continues after an error; calling Set
// again retries the aliases that failed.
func (a *Aliases) Set(ctx context.Context, addrs []netip.Addr) error {
	var errs []error
	want := make(map[netip.Addr]bool, len(addrs))
	for _, addr := range addrs {
		want[addr] = true
		if a.aliases[addr] {
			continue
		}
		if a.aliases == nil {
			a.aliases = make(map[netip.Addr]bool)
		}
		// Recorded first: ifconfig may have added the alias even if it is killed.
		// Adding an alias that exists already succeeds.
		a.aliases[addr] = false
		if err := ifconfig(ctx, "lo0", "alias", addr.String(), "255.255.255.255"); err != nil {
			errs = append(errs, err)
			continue
		}
		a.aliases[addr] = true
	}
	for addr := range a.aliases {
		if want[addr] {
			continue
		}
		if err := ifconfig(ctx, "lo0", "-alias", addr.String()); err != nil && a.aliases[addr] {
			errs = append(errs, err)
			a.aliases[addr] = false // the next call doesn't report an error if the alias is gone
			continue
		}
		delete(a.aliases, addr)
	}
	return errors.Join(errs...)
}

// CleanAliases removes the aliases among addrs, which a killed process has left behind.
func CleanAliases(ctx context.Context, addrs []netip.Addr) error {
	out, err := exec.CommandContext(ctx, "/sbin/ifconfig", "lo0").Output()
	if err != nil {
		return fmt.Errorf("ifconfig lo0: %w", err)
	}
	var errs []error
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "inet" {
			continue
		}
		addr, err := netip.ParseAddr(fields[1])
		if err != nil || addr == netaddr.Localhost || !slices.Contains(addrs, addr) {
			continue
		}
		errs = append(errs, ifconfig(ctx, "lo0", "-alias", addr.String()))
	}
	return errors.Join(errs...)
}

// ifconfig runs ifconfig(8) by its absolute path, independent of PATH.
func ifconfig(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "/sbin/ifconfig", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ifconfig %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
