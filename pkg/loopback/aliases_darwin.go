package loopback

import (
	"context"
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
	have []netip.Addr
}

// Set makes addrs the whole set of the aliases that are ours. After an error
// it is as far as it came, and a further call goes on from there.
func (a *Aliases) Set(ctx context.Context, addrs []netip.Addr) error {
	for _, addr := range addrs {
		if slices.Contains(a.have, addr) {
			continue
		}
		if err := ifconfig(ctx, "lo0", "alias", addr.String(), "255.255.255.255"); err != nil {
			return err
		}
		a.have = append(a.have, addr)
	}
	for _, addr := range slices.Clone(a.have) {
		if slices.Contains(addrs, addr) {
			continue
		}
		if err := ifconfig(ctx, "lo0", "-alias", addr.String()); err != nil {
			return err
		}
		a.have = slices.DeleteFunc(a.have, func(have netip.Addr) bool { return have == addr })
	}
	return nil
}

// ifconfig runs the system's own program, whatever PATH says (ifconfig(8)).
func ifconfig(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "/sbin/ifconfig", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ifconfig %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
