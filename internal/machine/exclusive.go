package machine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os/user"
	"sync"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/pkg/hosts"
	"github.com/kubeshore/kubeshore/pkg/listen"
)

// claims are the addresses that the kubeshore processes of this machine use.
type claims interface {
	// claim claims addresses in addition to those that were claimed before. It returns
	// an error for each one that another process uses.
	claim(ctx context.Context, addrs map[netip.Addr]bool) (refused map[netip.Addr]error, err error)
	// release releases all claimed addresses except those to keep.
	release(ctx context.Context, keep map[netip.Addr]bool) error
	close() error
}

// exclusivePorts is a Taker for addresses that no other kubeshore on this machine
// uses. With sk_lookup, the program that was attached first would get the other's
// connections, and neither would notice.
type exclusivePorts struct {
	listen.Taker
	claims claims
	// mapped returns the addresses of other owners' lines in the hosts file, with the
	// owners. Their names must not lead to this user's services.
	mapped func() (map[netip.Addr]string, error)

	mu   sync.Mutex
	held map[netip.Addr]bool // the addresses of the last successful Take
}

// withClaims returns a Taker for the addresses that no other kubeshore uses.
func withClaims(taker listen.Taker, o Options, log logrus.FieldLogger) *exclusivePorts {
	claims, err := openClaims(claimsDir, o.Owner)
	if err != nil {
		log.Warnf("%v; the addresses of other kubeshore processes on this machine are not checked", err)
		claims = noClaims{}
	}
	mapped := func() (map[netip.Addr]string, error) { return hosts.OtherOwners(o.HostsFile, o.Owner) }
	return &exclusivePorts{Taker: taker, claims: claims, mapped: mapped}
}

// CleanedClaims is the outcome of [CleanClaims].
type CleanedClaims struct {
	Removed []string // removed files and directories
	Left    []string // files that only root can remove
}

// CleanClaims removes the claims of processes that were killed and, after the last
// process, their directory.
func CleanClaims(ctx context.Context) (CleanedClaims, error) { return cleanClaims(ctx, claimsDir) }

// Take implements [listen.Taker]. The ports of an address that somebody else uses
// get an error that names the owner. They are available once the owner has ended.
func (p *exclusivePorts) Take(ctx context.Context, want, existing []netip.AddrPort) (sockets []listen.Socket, portErrors map[netip.AddrPort]error, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	refused, err := p.claim(ctx, want)
	if err != nil {
		return nil, nil, fmt.Errorf("claim addresses: %w", err)
	}
	admitted := make([]netip.AddrPort, 0, len(want))
	refusedPorts := make(map[netip.AddrPort]error)
	for _, at := range want {
		if reason := refused[at.Addr()]; reason != nil {
			refusedPorts[at] = reason
		} else {
			admitted = append(admitted, at)
		}
	}
	sockets, portErrors, err = p.Taker.Take(ctx, admitted, existing)
	if err != nil {
		return sockets, portErrors, err // ports of all claimed addresses may be open
	}
	maps.Copy(refusedPorts, portErrors)
	p.held = addressesOf(admitted)
	_ = p.claims.release(ctx, p.held) // after a failure, the next Take repeats it; nobody is misled meanwhile
	return sockets, refusedPorts, nil
}

// holds reports whether an address was claimed by the last successful Take.
func (p *exclusivePorts) holds(addr netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held[addr]
}

// claim claims the addresses of ports. It returns an error for each one that
// somebody else uses. p.mu must be held.
func (p *exclusivePorts) claim(ctx context.Context, ports []netip.AddrPort) (refused map[netip.Addr]error, err error) {
	addrs := addressesOf(ports)
	claimed, err := p.claims.claim(ctx, addrs)
	if err != nil {
		return nil, err
	}
	refused = make(map[netip.Addr]error)
	maps.Copy(refused, claimed)
	maps.DeleteFunc(addrs, func(addr netip.Addr, _ bool) bool { return p.held[addr] || refused[addr] != nil })
	if len(addrs) == 0 {
		return refused, nil
	}
	mapped, err := p.mapped()
	for addr := range addrs {
		if owner := mapped[addr]; owner != "" {
			refused[addr] = fmt.Errorf("address %v has names of kubeshore of %s in the hosts file; if that has ended, run sudo kubeshore clean", addr, describeOwner(owner))
		}
	}
	return refused, err
}

// Close implements [listen.Taker].
func (p *exclusivePorts) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = nil
	return errors.Join(p.Taker.Close(), p.claims.close())
}

// addressesOf returns the addresses of ports.
func addressesOf(ports []netip.AddrPort) map[netip.Addr]bool {
	addrs := make(map[netip.Addr]bool)
	for _, at := range ports {
		addrs[at.Addr()] = true
	}
	return addrs
}

// describeOwner returns the name of the user with an ID, if it is known.
func describeOwner(id string) string {
	if u, err := user.LookupId(id); err == nil {
		return "user " + u.Username
	}
	return "user " + id
}

// noClaims are the claims where processes can't know each other's.
type noClaims struct{}

func (noClaims) claim(context.Context, map[netip.Addr]bool) (map[netip.Addr]error, error) {
	return nil, nil
}
func (noClaims) release(context.Context, map[netip.Addr]bool) error { return nil }
func (noClaims) close() error                                       { return nil }
