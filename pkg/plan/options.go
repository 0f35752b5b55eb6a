package plan

import (
	"net/netip"
	"path"
	"slices"
	"strings"
)

// Options is what a user may say about the plan. Nobody changes them once they
// are in use.
type Options struct {
	// Contexts are those whose Services are planned, in the order in which they
	// count. The first one's Services have the names that they have in their
	// cluster; those of a further one have its alias in them.
	Contexts []ContextOptions
	// Mapping are the ports here of Services' ports; a port that it doesn't have
	// is the same here as there.
	Mapping map[uint16]uint16
	// Domain is one more suffix for the short names; empty if there is none.
	Domain string
	// Services is what is said of single Services. Those that are Local are
	// planned even if the cluster doesn't have them.
	Services map[ServiceID]ServiceOptions
}

// ContextOptions is what a user may say about one context.
type ContextOptions struct {
	Context string
	// Alias is a DNS label that stands for the context in names.
	Alias string
	// Namespace is the one whose Services answer to their bare names, as they
	// would for a pod of that namespace, if the context is the first.
	Namespace string
	// Include and Exclude are patterns (path.Match) of the Services that are
	// planned: of name.namespace if they have a dot, else of the name. An empty
	// Include means all; what Exclude has is not planned, whatever Include says.
	Include, Exclude []string
	// Controller is the Service that this context's Ingresses are reached through
	// where their status doesn't tell. It may be zero.
	Controller ServiceID
}

// ServiceOptions is what a user may say about one Service.
type ServiceOptions struct {
	Address netip.Addr // the one that it must have; the zero Addr if any will do
	// Mapping are the ports here of the Service's ports, before Options.Mapping.
	Mapping map[uint16]uint16
	Names   []string // more names
	// Local means that the Service runs on this machine: its names lead to
	// 127.0.0.1, and nothing is forwarded.
	Local bool
}

// matches tells whether a pattern is one of a Service.
func matches(pattern string, id ServiceID) bool {
	name := id.Name
	if strings.Contains(pattern, ".") {
		name = id.String()
	}
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

// covers tells whether a Service is to be planned.
func (o ContextOptions) covers(id ServiceID) bool {
	matches := func(pattern string) bool { return matches(pattern, id) }
	included := len(o.Include) == 0 || slices.ContainsFunc(o.Include, matches)
	return included && !slices.ContainsFunc(o.Exclude, matches)
}

// port returns the port here of a Service's port.
func (o Options) port(id ServiceID, number uint16) uint16 {
	for _, mapping := range []map[uint16]uint16{o.Services[id].Mapping, o.Mapping} {
		if here, ok := mapping[number]; ok {
			return here
		}
	}
	return number
}

// of returns the options of a context and which one it is.
func (o Options) of(context string) (ContextOptions, int) {
	i := slices.IndexFunc(o.Contexts, func(c ContextOptions) bool { return c.Context == context })
	if i < 0 {
		return ContextOptions{}, i
	}
	return o.Contexts[i], i
}
