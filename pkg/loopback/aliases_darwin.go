package loopback

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
)

// Aliases makes addresses reachable on this machine: macOS answers on
// 127.0.0.1 alone, and on what else is an alias of the interface lo0. The zero
// value is ready. It needs root, and is not safe for concurrent use.
type Aliases struct {
	have map[netip.Addr]bool // ours; true if it is certain that it is there
}

// Set makes addrs the whole set of the aliases that are ours. It does what it
// can, and returns what it couldn't; a further call tries that again.
func (a *Aliases) Set(ctx context.Context, addrs []netip.Addr) error {
	var errs []error
	want := make(map[netip.Addr]bool, len(addrs))
	for _, addr := range addrs {
		want[addr] = true
		if a.have[addr] {
			continue
		}
		if a.have == nil {
			a.have = make(map[netip.Addr]bool)
		}
		// Noted first: a run that is cut short may have made it. To make one
		// again that is there already is no error.
		a.have[addr] = false
		if err := ifconfig(ctx, "lo0", "alias", addr.String(), "255.255.255.255"); err != nil {
			errs = append(errs, err)
			continue
		}
		a.have[addr] = true
	}
	for addr := range a.have {
		if want[addr] {
			continue
		}
		if err := ifconfig(ctx, "lo0", "-alias", addr.String()); err != nil && a.have[addr] {
			errs = append(errs, err)
			a.have[addr] = false // next time it needn't be there any more
			continue
		}
		delete(a.have, addr)
	}
	return errors.Join(errs...)
}

// CleanAliases takes away those of the addresses that are aliases: what a killed run had.
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
		if addr, err := netip.ParseAddr(fields[1]); err == nil && addr != localhost && slices.Contains(addrs, addr) {
			errs = append(errs, ifconfig(ctx, "lo0", "-alias", addr.String()))
		}
	}
	return errors.Join(errs...)
}

// localhost is where services on this machine are: the system's own.
var localhost = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// ifconfig runs the system's own program, whatever PATH says (ifconfig(8)).
func ifconfig(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "/sbin/ifconfig", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ifconfig %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
