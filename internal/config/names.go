package config

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/kubeshore/kubeshore/internal/dnsname"
	"github.com/kubeshore/kubeshore/internal/namepolicy"
	"github.com/kubeshore/kubeshore/internal/project"
	"github.com/kubeshore/kubeshore/pkg/kube"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// Names selects the names of services to write.
type Names string

// The values of --names.
const (
	NamesShort Names = "short" // full and short names
	NamesFull  Names = "full"  // only those that end in svc.cluster.local or svc
)

// String returns the value's name.
func (n *Names) String() string {
	if *n == "" {
		return string(NamesShort)
	}
	return string(*n)
}

// Set sets the value by its name.
func (n *Names) Set(name string) error {
	switch names := Names(name); names {
	case NamesShort, NamesFull:
		*n = names
		return nil
	}
	return fmt.Errorf("must be %s or %s", NamesShort, NamesFull)
}

// Type lists the values, for the help of the flag.
func (*Names) Type() string { return "short|full" }

// checkNames returns the first error in the spec's patterns of names.
func (s *Spec) checkNames() error {
	for _, pattern := range s.Ingress {
		if err := namepolicy.CheckPattern(pattern); err != nil {
			return fmt.Errorf("--ingress: %w", err)
		}
	}
	for _, pattern := range s.PublicNames {
		if err := namepolicy.CheckPublicPattern(pattern); err != nil {
			return fmt.Errorf("--public-names: %w", err)
		}
	}
	return nil
}

// KeeperNames returns the policy of a keeper whose command line is only the spec:
// with sudo kubeshore up, root reads neither kubeconfigs nor project files.
func (s *Spec) KeeperNames() namepolicy.Policy {
	asked := askedNames{full: s.Names == NamesFull}
	if !s.AllNamespaces && !slices.Contains(s.Namespaces, "*") {
		asked.addNamespaces(s.Namespaces)
	}
	asked.addIncluded(s.Include)
	for i, context := range distinct(s.Contexts) {
		if i > 0 {
			asked.addAlias(kube.Label(context))
		}
	}
	asked.addDomain(strings.ToLower(strings.TrimSuffix(s.Domain, ".")))
	return namepolicy.Policy{Full: asked.full, Patterns: needed(asked.full, slices.Concat(asked.patterns, s.PublicNames, s.Ingress))}
}

// onlyFull reports whether services have full names only.
func (s *Spec) onlyFull(file project.File) bool {
	if s.Names != "" {
		return s.Names == NamesFull
	}
	return file.ShortNames != nil && !*file.ShortNames
}

// addNames sets the policy of the plan. The contexts must have been added.
func (r *Resolved) addNames(s *Spec, file project.File) {
	asked := askedNames{full: s.onlyFull(file)}
	asked.addNamespaces(r.Follow[0].Namespaces)
	asked.addIncluded(r.Plan.Contexts[0].Include)
	for _, context := range r.Plan.Contexts[1:] {
		asked.addAlias(context.Alias)
	}
	asked.addDomain(r.Plan.Domain)
	for id := range r.Plan.Services {
		if id.Context == r.Plan.Contexts[0].Context && !asked.full {
			asked.patterns = append(asked.patterns, id.String()) // the file has this name
		}
	}
	slices.Sort(asked.patterns)
	r.Plan.Ingress = firstNonEmpty(s.Ingress, texts(file.Ingress))
	r.Plan.Names = namepolicy.Policy{
		Full:     asked.full,
		Patterns: distinct(slices.Concat(asked.patterns, firstNonEmpty(s.PublicNames, texts(file.PublicNames)))),
	}
	if i := slices.IndexFunc(r.Plan.Contexts, func(c plan.ContextOptions) bool { return c.IngressController != (plan.ServiceID{}) }); i >= 0 && len(r.Plan.Ingress) == 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("ingressController of context %s is unused: select hosts with --ingress, or ingress in %s", r.Plan.Contexts[i].Context, project.Name))
	}
}

// KeeperNames returns the policy of a keeper for the configuration in force. It
// can't tell names of Services from others, so it allows the patterns of both.
func (w *Watcher) KeeperNames() namepolicy.Policy {
	options := w.resolved.Load().Plan
	policy := namepolicy.Policy{Full: options.Names.Full, Patterns: slices.Concat(options.Names.Patterns, options.Ingress)}
	for _, id := range slices.SortedFunc(maps.Keys(options.Services), plan.ServiceID.Compare) {
		for _, name := range options.Services[id].Names {
			if _, public := namepolicy.Public(name); public || policy.Full {
				policy.Patterns = append(policy.Patterns, name)
			}
		}
	}
	policy.Patterns = needed(policy.Full, policy.Patterns)
	return policy
}

// needed returns the patterns without which a keeper would refuse a name: in short
// mode, it permits names that aren't public anyway. So most command lines have none,
// and a sudoers rule can be without.
func needed(full bool, patterns []string) []string {
	return distinct(slices.DeleteFunc(slices.Clone(patterns), func(pattern string) bool {
		last := pattern[strings.LastIndexByte(pattern, '.')+1:]
		_, public := namepolicy.Public("*." + last)
		return !full && !public && !strings.HasPrefix(pattern, "!") && !strings.ContainsAny(last, "*?[")
	}))
}

// askedNames collects patterns of names that the user asked for by naming what
// they end in.
type askedNames struct {
	full     bool
	patterns []string
}

func (a *askedNames) addSuffix(suffix string) {
	if dnsname.IsName(suffix) {
		a.patterns = append(a.patterns, "*."+suffix)
	}
}

func (a *askedNames) addNamespaces(namespaces []string) {
	for _, namespace := range namespaces {
		if !a.full {
			a.addSuffix(namespace)
		}
	}
}

// addIncluded adds the namespaces that patterns of services name without wildcards.
func (a *askedNames) addIncluded(patterns []string) {
	for _, pattern := range patterns {
		if _, namespace, ok := strings.Cut(pattern, "."); ok {
			a.addNamespaces([]string{namespace})
		}
	}
}

func (a *askedNames) addAlias(alias string) {
	if a.full {
		alias = "svc." + alias
	}
	a.addSuffix(alias)
}

func (a *askedNames) addDomain(domain string) {
	if !a.full {
		a.addSuffix(domain)
	}
}

// ownNames returns the names of this machine that no service may have.
func ownNames() map[string]string {
	name, err := os.Hostname()
	if err != nil {
		return map[string]string{} // unknown; the keeper checks it too
	}
	return namepolicy.OwnNames(name)
}
