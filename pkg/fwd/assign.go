package fwd

import (
	"net/netip"
	"slices"

	"github.com/kubeshore/kubeshore/internal/netaddr"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// assign returns the addresses of the hosts, and the hosts with a problem added
// to each that can't get one. It doesn't change its argument.
func (e *Engine) assign(hosts []plan.Host) ([]plan.Host, map[plan.HostID]netip.Addr) {
	keys := make(map[string]netip.Addr, len(hosts))
	for _, h := range hosts {
		if len(h.Ports) > 0 {
			keys[h.ID.Key()] = h.Address
		}
	}
	byKey, errs := e.Addresses.Assign(keys)
	if len(errs) > 0 {
		hosts = slices.Clone(hosts)
	}
	addresses := make(map[plan.HostID]netip.Addr, len(byKey))
	for i := range hosts {
		h := &hosts[i]
		if address, ok := byKey[h.ID.Key()]; ok {
			addresses[h.ID] = address
		} else if h.Local {
			addresses[h.ID] = netaddr.Localhost
		}
		if err := errs[h.ID.Key()]; err != nil {
			h.Problems = append(slices.Clip(h.Problems), err.Error())
		}
	}
	return hosts, addresses
}
