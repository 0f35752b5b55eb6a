package plan

import (
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/kubeshore/kubeshore/internal/namepolicy"
)

// Options is the user's configuration of a plan. It is immutable once in use.
type Options struct {
	// Contexts lists the contexts to plan for, in order of precedence. Services
	// of the first one have the same names as in their cluster; names of the
	// others end in the context's alias.
	Contexts []ContextOptions
	// Mapping maps ports of Services to local ports. Unlisted ports are the same
	// locally.
	Mapping map[uint16]uint16
	// Domain is an additional suffix for short names; empty for none.
	Domain string
	// Services configures individual Services. Local ones are planned even if
	// the cluster doesn't have them.
	Services map[ServiceID]ServiceOptions
	// Names decides which names are written. Its patterns apply to the names of
	// Services; those that the user configured need none.
	Names namepolicy.Policy
	// Enforced is the part of the policy that the keeper got when it was started,
	// and which may be older; nil if there is no keeper.
	Enforced *namepolicy.Policy
	// Ingress lists patterns of the Ingress hosts to resolve (namepolicy.Match).
	Ingress []string
}

// ContextOptions is the configuration of one context.
type ContextOptions struct {
	Context string
	// Alias is the DNS label that ends the names of this context.
	Alias string
	// Namespace is the namespace whose Services also get their bare names, as
	// for a pod in that namespace. Only the first context's counts.
	Namespace string
	// Include and Exclude are patterns (path.Match) that select Services. A
	// pattern with a dot matches name.namespace, any other the name. An empty
	// Include selects all; Exclude takes precedence.
	Include, Exclude []string
	// IngressController is the Service that serves this context's Ingresses. If
	// it is zero, the Ingress's load-balancer status decides.
	IngressController ServiceID
}

// ServiceOptions is the configuration of one Service.
type ServiceOptions struct {
	Address netip.Addr // fixed address; the zero Addr for an automatic one
	// Mapping maps the Service's ports to local ports. It takes precedence over
	// Options.Mapping.
	Mapping map[uint16]uint16
	Names   []string // additional names
	// PodNames decides whether the Service's pods have names; nil chooses.
	PodNames *bool
	// Local is set if the Service runs on this machine: its names resolve to
	// 127.0.0.1, and nothing is forwarded.
	Local bool
}

// matches reports whether the pattern matches the Service.
func matches(pattern string, id ServiceID) bool {
	name := id.Name
	if strings.Contains(pattern, ".") {
		name = id.String()
	}
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

// selects reports whether Include and Exclude select the Service.
func (o ContextOptions) selects(id ServiceID) bool {
	matchesID := func(pattern string) bool { return matches(pattern, id) }
	included := len(o.Include) == 0 || slices.ContainsFunc(o.Include, matchesID)
	return included && !o.excludes(id)
}

// excludes reports whether Exclude matches the Service.
func (o ContextOptions) excludes(id ServiceID) bool {
	return slices.ContainsFunc(o.Exclude, func(pattern string) bool { return matches(pattern, id) })
}

// localPort returns the local port for a port of a Service.
func (o Options) localPort(id ServiceID, number uint16) uint16 {
	for _, mapping := range []map[uint16]uint16{o.Services[id].Mapping, o.Mapping} {
		if local, ok := mapping[number]; ok {
			return local
		}
	}
	return number
}

// context returns the options and the index of a context; the index is -1 if
// there is no such context.
func (o Options) context(name string) (ContextOptions, int) {
	i := slices.IndexFunc(o.Contexts, func(c ContextOptions) bool { return c.Context == name })
	if i < 0 {
		return ContextOptions{}, i
	}
	return o.Contexts[i], i
}
