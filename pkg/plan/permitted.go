package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kubeshore/kubeshore/internal/namepolicy"
)

// refusedDomains are the top-level domains of public names that were refused, and
// whether short names were.
type refusedDomains struct {
	byPolicy map[string]bool // the user can allow these
	byKeeper map[string]bool // the keeper would refuse these
	short    bool            // the keeper was started for full names only
}

// check returns the reason why a name must not be written; nil if it may. The
// patterns for the names of Services don't matter for other names: the user
// listed or selected those.
func (p *planner) check(name string, r rank) *namepolicy.Refusal {
	policy := p.options.Names
	if r == rankUser || r == rankIngress {
		policy.Patterns = append([]string{"*"}, slices.DeleteFunc(slices.Clone(policy.Patterns), func(pattern string) bool { return !strings.HasPrefix(pattern, "!") })...)
	}
	refusal := policy.Check(name)
	if refusal == nil && p.options.Enforced != nil {
		if refusal = p.options.Enforced.Check(name); refusal != nil && (refusal.Public != "" || p.options.Enforced.Full) {
			p.refused.short = p.refused.short || p.options.Enforced.Full
			if refusal.Public != "" {
				p.refused.byKeeper[refusal.Public] = true
			}
			return &namepolicy.Refusal{Name: name, Why: "the keeper was started without permission for it"}
		}
	}
	if refusal != nil && refusal.Public != "" {
		p.refused.byPolicy[refusal.Public] = true
	}
	return refusal
}

// claimAll claims names for a host, as far as the policy permits. The host from,
// whose names they are, gets the reasons for the others: as a problem if the user
// configured them, otherwise as a limit.
func (p *planner) claimAll(from, host int, r rank, names []string) {
	refused := make(map[string][]string) // names by reason
	for _, name := range names {
		if refusal := p.check(name, r); refusal != nil {
			refused[refusal.Why] = append(refused[refusal.Why], refusal.Name)
			continue
		}
		p.claims = append(p.claims, claim{name, r, host})
	}
	for _, why := range slices.Sorted(maps.Keys(refused)) {
		text := fmt.Sprintf("not resolvable as %s: %s", strings.Join(refused[why], ", "), why)
		if h := &p.hosts[from]; r == rankUser {
			h.Problems = append(h.Problems, text)
		} else {
			h.Limits = append(h.Limits, text)
		}
	}
}

// nameNotes returns the lines of Desired.Notes. assignNames must have been called.
func (p *planner) nameNotes() (notes []string) {
	written, onlyHTTPS := make(map[string]bool), make(map[string]bool)
	for _, h := range p.hosts {
		for _, name := range h.Names {
			if domain, public := namepolicy.Public(name); public && !namepolicy.IsClusterName(name) {
				written[domain] = true
				if namepolicy.NeedsHTTPS(domain) {
					onlyHTTPS[domain] = true
				}
			}
		}
	}
	if len(written) > 0 {
		text := fmt.Sprintf("names that end in %s hide public names", domainList(written, "and"))
		if len(onlyHTTPS) > 0 {
			text += "; browsers use HTTPS only for " + domainList(onlyHTTPS, "and")
		}
		notes = append(notes, text)
	}
	if len(p.refused.byPolicy) > 0 {
		notes = append(notes, fmt.Sprintf("names that end in %s are not written, because they could hide public names; allow them by naming the namespace with -n, or with --public-names",
			domainList(p.refused.byPolicy, "or")))
	}
	if len(p.refused.byKeeper) > 0 {
		notes = append(notes, fmt.Sprintf("names that end in %s are not written until kubeshore is restarted, because its keeper was started without permission for them (sudo kubeshore up takes it from -n and --public-names, not from files)",
			domainList(p.refused.byKeeper, "or")))
	}
	if p.refused.short {
		notes = append(notes, "short names are not written until kubeshore is restarted, because its keeper was started for full names only (sudo kubeshore up takes exceptions from --public-names, not from files)")
	}
	return notes
}

// domainList returns top-level domains as text: .app, .dev and .shop.
func domainList(domains map[string]bool, conjunction string) string {
	sorted := slices.Sorted(maps.Keys(domains))
	for i := range sorted {
		sorted[i] = "." + sorted[i]
	}
	last := len(sorted) - 1
	if last == 0 {
		return sorted[0]
	}
	return strings.Join(sorted[:last], ", ") + " " + conjunction + " " + sorted[last]
}
