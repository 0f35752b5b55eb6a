package fwd

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/kubeshore/kubeshore/pkg/plan"
)

// Status is the state of this machine at one moment. It is immutable once
// published.
type Status struct {
	At        time.Time // when it was published; zero before the first time
	Clusters  []plan.Cluster
	Notes     []string     // those of plan.Desired
	Hosts     []HostStatus // sorted by ID
	Listening string       // how ports are bound, see Ports.How
	// Problems are errors of this machine that concern all hosts and are retried,
	// e.g. names that can't be written. Until they are resolved, hosts have the names
	// that were in force before, and new hosts are left out.
	Problems []string
	// Unnamed is set if no names are written, because the hosts file can't be changed.
	Unnamed bool
}

// HostStatus is the state of one host of the plan.
type HostStatus struct {
	ID      plan.HostID
	Address netip.Addr // the zero Addr if nothing is forwarded
	Names   []string   // the names in force, the fully qualified one first
	// LostNames are names of the host that lead elsewhere; Problems has the reasons.
	LostNames []string
	Ports     []PortStatus
	Local     bool // the Service runs on this machine
	// Implicit is that of plan.Host.
	Implicit bool
	AliasOf  plan.HostID // the host that has its names; zero if it is not an alias
	// Ready and Pods count the pods behind the host.
	Ready, Pods int
	// Denied is set if the cluster denied the most recent connection or check, for
	// every pod of the host. All of its ports are then Unreachable.
	Denied bool
	// Problems and Limits are those of plan.Host, with problems that occurred on
	// this machine added.
	Problems, Limits []string
}

// errorText returns an error's text in one line; errors.Join uses several.
func errorText(err error) string {
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// newStatus returns the status of the desired state, with the problems of the
// routes.
func newStatus(desired plan.Desired, addresses map[plan.HostID]netip.Addr, portErrs map[netip.AddrPort]error, r routes) Status {
	status := Status{Clusters: desired.Clusters, Notes: desired.Notes, Hosts: make([]HostStatus, 0, len(desired.Hosts))}
	for _, h := range desired.Hosts {
		status.Hosts = append(status.Hosts, newHostStatus(h, addresses[h.ID], portErrs, r))
	}
	return status
}

// newHostStatus returns the status of a host. Without a bound port it has no name,
// because the name would point at some other program's port.
func newHostStatus(h plan.Host, address netip.Addr, portErrs map[netip.AddrPort]error, r routes) HostStatus {
	s := HostStatus{
		ID: h.ID, Address: address, Local: h.Local, Implicit: h.Implicit, AliasOf: h.AliasOf, LostNames: h.LostNames,
		Ready: h.Ready, Pods: h.Pods, Problems: slices.Clone(h.Problems), Limits: h.Limits,
	}
	if h.Local {
		s.Names = h.Names
	}
	if !address.IsValid() {
		return s // Problems has the reason
	}
	failing := false
	var problems portProblems
	for _, p := range h.Ports {
		at := netip.AddrPortFrom(address, p.Number)
		err := portErrs[at]
		s.Ports = append(s.Ports, PortStatus{Number: p.Number, Err: err})
		if err == nil {
			s.Names = h.Names
		}
		if err != nil {
			problems.add(cause{kind: bindCause, text: errorText(err)}, p.Number, 0)
		}
		if found, ok := r[at].problem(); ok {
			failing, s.Denied = true, s.Denied || r[at].hostState.denied.Load()
			if found.cause.kind != deniedCause || h.Denied == "" { // the same in other words
				problems.add(found.cause, p.Number, found.targetPort)
			}
		}
	}
	s.Problems = append(s.Problems, problems.lines(address)...)
	for i, p := range s.Ports {
		s.Ports[i].Reach = r[netip.AddrPortFrom(address, p.Number)].reach(h.Pods, failing)
	}
	if h.Denied != "" && len(s.Ports) > 0 && (s.Denied || !r.answered(s)) {
		s.deny(h.Denied)
	}
	return s
}

// deny adds the problem that the user may not forward to the pods.
func (s *HostStatus) deny(reason string) {
	s.Denied, s.Problems = true, append(s.Problems, reason)
	for i := range s.Ports {
		s.Ports[i].Reach = Unreachable
	}
}

// answered reports whether a pod has answered a connection to the host. It may in spite
// of a missing permission for the namespace, if the user has one for single pods.
func (r routes) answered(s HostStatus) bool {
	return slices.ContainsFunc(s.Ports, func(p PortStatus) bool {
		return slices.ContainsFunc(r[netip.AddrPortFrom(s.Address, p.Number)].targets, func(d destination) bool { return d.state.answered.Load() })
	})
}

// names returns the names in force, by address.
func (s Status) names() map[netip.Addr][]string {
	table := make(map[netip.Addr][]string)
	for _, h := range s.Hosts {
		if len(h.Names) > 0 {
			table[h.Address] = append(slices.Clip(table[h.Address]), h.Names...)
		}
	}
	return table
}

// boundPorts returns the addresses and ports that are bound.
func (s Status) boundPorts() map[netip.AddrPort]bool {
	bound := make(map[netip.AddrPort]bool)
	for _, h := range s.Hosts {
		for _, p := range h.Ports {
			if p.Err == nil {
				bound[netip.AddrPortFrom(h.Address, p.Number)] = true
			}
		}
	}
	return bound
}

// withFailure returns the status after a pass that failed with err: with the names in
// force only, and without hosts that are new since before or have lost their names.
func (s Status) withFailure(err error, before Status, inForce map[netip.Addr][]string) Status {
	known := make(map[plan.HostID]bool, len(before.Hosts))
	for _, h := range before.Hosts {
		known[h.ID] = true
	}
	s.Problems = []string{machineProblem(err)}
	applied := make([]HostStatus, 0, len(s.Hosts))
	for _, h := range s.Hosts {
		var names []string
		for _, name := range h.Names {
			if slices.Contains(inForce[h.Address], name) {
				names = append(names, name)
			}
		}
		if names == nil && (len(h.Names) > 0 || !known[h.ID]) {
			continue
		}
		h.Names = names
		applied = append(applied, h)
	}
	s.Hosts = applied
	return s
}

// withoutNames returns the status with no names.
func (s Status) withoutNames() Status {
	s.Unnamed = true
	s.Hosts = slices.Clone(s.Hosts)
	for i := range s.Hosts {
		s.Hosts[i].Names = nil
	}
	return s
}

// withoutRefused returns the status without the refused names, and with a problem for
// each reason.
func (s Status) withoutRefused(refused map[string]error) Status {
	if len(refused) == 0 {
		return s
	}
	s.Hosts = slices.Clone(s.Hosts)
	for i := range s.Hosts {
		h := &s.Hosts[i]
		accepted := make([]string, 0, len(h.Names))
		var reasons []string
		names := make(map[string][]string) // by reason
		for _, name := range h.Names {
			err, ok := refused[name]
			if !ok {
				accepted = append(accepted, name)
				continue
			}
			reason := err.Error()
			if len(names[reason]) == 0 {
				reasons = append(reasons, reason)
			}
			names[reason] = append(names[reason], name)
		}
		h.Names, h.Problems, h.LostNames = accepted, slices.Clip(h.Problems), slices.Clip(h.LostNames)
		for _, reason := range reasons {
			h.LostNames = append(h.LostNames, names[reason]...)
			label := "name "
			if len(names[reason]) > 1 {
				label = "names "
			}
			h.Problems = append(h.Problems, label+strings.Join(names[reason], ", ")+": "+reason)
		}
	}
	return s
}
