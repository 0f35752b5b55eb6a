package fwd

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/kubeshore/kubeshore/pkg/plan"
)

// Status is what stands on this machine at one moment. Nobody changes a status
// once it was published.
type Status struct {
	At        time.Time // when it came to be; zero if nothing was yet
	Clusters  []plan.Cluster
	Hosts     []HostStatus // sorted by ID
	Listening string       // how ports are taken, in words
}

// published is the Status that stands now.
type published struct {
	mu      sync.Mutex
	now     Status
	changed chan struct{} // closed when it is another one
}

func (p *published) load() (Status, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.now, p.changed
}

func (p *published) store(s Status) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed != nil {
		close(p.changed)
	}
	p.now, p.changed = s, make(chan struct{})
}

// announce has those who wait look anew.
func (p *published) announce() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// HostStatus is what became of one host of the plan.
type HostStatus struct {
	ID      plan.HostID
	Address netip.Addr // the zero Addr if it has none, as nothing can be forwarded
	Names   []string   // those in force, the fully qualified one first
	Ports   []PortStatus
	Local   bool        // it runs on this machine
	AliasOf plan.HostID // the host that it stands for, which has its names; zero if none
	// Ready and Pods count the pods behind the host.
	Ready, Pods int
	// Barred: no connection gets to a pod, as far as those have found that were made
	// last; Problems says why.
	Barred bool
	// Problems says what of the host doesn't work, and why; Limits, what can't be forwarded
	// by what it is.
	Problems, Limits []string
}

// PortStatus is what became of one port of a host.
type PortStatus struct {
	Number uint16
	Err    error // why nothing is accepted there; nil if connections are
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// newStatus returns what became of the plan, with what keeps connections from
// their pods. A host none of whose ports accepts gets no name: it would point at
// whatever else answers there.
func newStatus(d plan.Desired, addresses map[plan.HostID]netip.Addr, faults map[netip.AddrPort]error, r routes) Status {
	status := Status{Clusters: d.Clusters, Hosts: make([]HostStatus, 0, len(d.Hosts))}
	for _, h := range d.Hosts {
		s := HostStatus{
			ID: h.ID, Address: addresses[h.ID], Local: h.Local, AliasOf: h.AliasOf,
			Ready: h.Ready, Pods: h.Pods, Problems: slices.Clone(h.Problems), Limits: h.Limits,
		}
		if h.Local {
			s.Names = h.Names
		}
		faulty := false
		for _, p := range h.Ports {
			if !s.Address.IsValid() {
				break // its problems say why
			}
			at := netip.AddrPortFrom(s.Address, p.Number)
			err := faults[at]
			s.Ports = append(s.Ports, PortStatus{Number: p.Number, Err: err})
			if err == nil {
				s.Names = h.Names
			} else {
				s.Problems = append(s.Problems, err.Error())
			}
			problem := r[at].problem()
			faulty = faulty || problem != ""
			if problem != "" && !slices.Contains(s.Problems, problem) { // one may be several ports'
				s.Problems = append(s.Problems, problem)
			}
		}
		s.Barred = faulty && !slices.ContainsFunc(s.Ports, func(p PortStatus) bool {
			return p.Err == nil && !r[netip.AddrPortFrom(s.Address, p.Number)].barred()
		})
		status.Hosts = append(status.Hosts, s)
	}
	return status
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

// unnamed takes all names away, as there are to be none.
func (s Status) unnamed() {
	for i := range s.Hosts {
		s.Hosts[i].Names = nil
	}
}

// drop takes the names away that were refused, and says so.
func (s Status) drop(refused map[string]error) {
	for i := range s.Hosts {
		h := &s.Hosts[i]
		kept := make([]string, 0, len(h.Names))
		for _, name := range h.Names {
			if err, ok := refused[name]; ok {
				h.Problems = append(h.Problems, err.Error())
				continue
			}
			kept = append(kept, name)
		}
		h.Names = kept
	}
}
