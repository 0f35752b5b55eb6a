package resolver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
)

// getentPaths are where getent(1) may be. PATH isn't used, because it may be
// somebody else's if this process runs as root.
var getentPaths = []string{"/usr/bin/getent", "/bin/getent", "/run/current-system/sw/bin/getent"}

// notFoundStatus is the exit status of getent(1) if it doesn't find the name.
const notFoundStatus = 2

// Lookup returns the IPv4 addresses of a name. It runs getent(1), because a program
// without cgo has a resolver of its own. Its error is ErrNotFound, ErrUnavailable or,
// when ctx ends, that of ctx.
func Lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	for _, path := range getentPaths {
		output, err := exec.CommandContext(ctx, path, "ahostsv4", name).Output()
		exit := new(exec.ExitError)
		switch {
		case err == nil:
			return parseGetent(output), nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case !errors.As(err, &exit): // it couldn't be started
			continue
		case exit.ExitCode() == notFoundStatus:
			return nil, ErrNotFound
		}
		return nil, fmt.Errorf("%w: %s: %w", ErrUnavailable, path, err) // e.g. one without ahostsv4
	}
	return nil, fmt.Errorf("%w: there is no getent", ErrUnavailable)
}

// parseGetent returns the addresses in the output of getent(1), whose lines begin with one.
func parseGetent(output []byte) (addrs []netip.Addr) {
	for line := range bytes.Lines(output) {
		fields := bytes.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if addr, err := netip.ParseAddr(string(fields[0])); err == nil && !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}
