package config

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kubeshore/kubeshore/internal/failure"
	"github.com/kubeshore/kubeshore/internal/project"
	"github.com/kubeshore/kubeshore/pkg/kube"
	"github.com/kubeshore/kubeshore/pkg/loopback"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// Resolved is the configuration in force: the objects to watch, and the options of
// the plan.
type Resolved struct {
	Follow  []kube.Follow
	Plan    plan.Options
	Project bool     // there is a project file
	Notes   []string // deviations from the configuration, a line each
}

// resolve merges the command line and the project file; the command line takes
// precedence. cluster finds a context by its name; the empty name is the current
// context.
func resolve(s *Spec, file project.File, cluster func(context string) (*kube.Cluster, error)) (Resolved, error) {
	result := Resolved{Plan: plan.Options{
		Mapping:  s.Ports,
		Domain:   cmp.Or(strings.TrimSuffix(strings.ToLower(s.Domain), "."), string(file.Domain)),
		Services: make(map[plan.ServiceID]plan.ServiceOptions),
	}}
	if len(s.Ports) == 0 {
		result.Plan.Mapping = ports(file.Ports)
	}
	if s.Domain != "" && s.onlyFull(file) {
		return Resolved{}, failure.WithHint(fmt.Errorf("--domain adds short names, and shortNames in %s excludes them", project.Name), "add --names short")
	}
	for _, context := range s.contexts(file) {
		found, err := cluster(context.Name)
		if err != nil {
			return Resolved{}, err
		}
		result.addContext(s, file, context, found)
	}
	result.addServices(file.Services)
	result.addAddresses(s.Addresses)
	result.addNames(s, file)
	return result, result.checkAddresses()
}

// addContext adds one context.
func (r *Resolved) addContext(s *Spec, file project.File, context project.Context, found *kube.Cluster) {
	follow := kube.Follow{
		Context: found.Context, Labels: s.LabelSelector, Fields: s.FieldSelector, Ingresses: len(s.Ingress)+len(file.Ingress) > 0,
		Namespaces: s.namespaces(file, context, found.Context, found.Namespace),
	}
	options := plan.ContextOptions{
		Context:   found.Context,
		Alias:     r.alias(found.Context, cmp.Or(string(context.Alias), kube.Label(found.Context))),
		Namespace: found.Namespace,
		Include:   firstNonEmpty(s.Include, texts(context.Include), texts(file.Include)),
		Exclude:   firstNonEmpty(s.Exclude, texts(context.Exclude), texts(file.Exclude)),
	}
	if len(follow.Namespaces) > 0 {
		options.Namespace = follow.Namespaces[0]
	}
	for _, pattern := range options.Include {
		follow.Services = append(follow.Services, literal(pattern, follow.Namespaces)...)
	}
	if context.IngressController != "" {
		name, namespace, _ := context.IngressController.Split()
		options.IngressController = plan.ServiceID{Context: found.Context, Namespace: namespace, Name: name}
		follow.Services = append(follow.Services, types.NamespacedName{Namespace: namespace, Name: name})
		if len(options.Include) > 0 {
			options.Include = append(slices.Clip(options.Include), options.IngressController.String())
		}
	}
	r.Follow = append(r.Follow, follow)
	r.Plan.Contexts = append(r.Plan.Contexts, options)
}

// literal returns the Services that a pattern without wildcards names.
func literal(pattern string, namespaces []string) []types.NamespacedName {
	if strings.ContainsAny(pattern, `*?[\`) {
		return nil
	}
	if name, namespace, ok := strings.Cut(pattern, "."); ok {
		return []types.NamespacedName{{Namespace: namespace, Name: name}}
	}
	services := make([]types.NamespacedName, 0, len(namespaces))
	for _, namespace := range namespaces {
		services = append(services, types.NamespacedName{Namespace: namespace, Name: pattern})
	}
	return services
}

// alias returns the preferred alias of a context or, with a note, a similar one if
// another context has it.
func (r *Resolved) alias(context, preferred string) string {
	alias, other := preferred, ""
	for n := 2; ; n++ {
		i := slices.IndexFunc(r.Plan.Contexts, func(c plan.ContextOptions) bool { return c.Alias == alias })
		if i < 0 {
			break
		}
		other = cmp.Or(other, r.Plan.Contexts[i].Context)
		alias = fmt.Sprintf("%.60s-%d", preferred, n)
	}
	if other != "" {
		r.Notes = append(r.Notes, fmt.Sprintf("context %s is named %s because %s is the alias of context %s; set an alias in %s",
			context, alias, preferred, other, project.Name))
	}
	return alias
}

// addServices adds the project file's options of single services. Those of
// contexts that are not followed are ignored.
func (r *Resolved) addServices(services map[project.ServiceName]project.Service) {
	for full, service := range services {
		name, namespace, alias := full.Split()
		i := slices.IndexFunc(r.Plan.Contexts, func(c plan.ContextOptions) bool { return alias == "" || c.Alias == alias })
		if i < 0 {
			continue
		}
		r.Plan.Services[plan.ServiceID{Context: r.Plan.Contexts[i].Context, Namespace: namespace, Name: name}] = plan.ServiceOptions{
			Address: service.Address.Addr, Mapping: ports(service.Ports), Names: texts(service.Names), PodNames: service.PodNames, Local: service.Local,
		}
	}
}

// addAddresses sets the addresses of services that the command line sets, by any
// name of the service. Those of contexts that are not followed are ignored.
func (r *Resolved) addAddresses(addresses map[string]netip.Addr) {
	for _, full := range slices.Sorted(maps.Keys(addresses)) {
		id, ok := r.find(full)
		if !ok {
			continue
		}
		options := r.Plan.Services[id]
		options.Address = addresses[full]
		r.Plan.Services[id] = options
	}
}

// find returns the service with a name: its own, with or without its namespace,
// svc, and its context or cluster.local.
func (r *Resolved) find(full string) (id plan.ServiceID, ok bool) {
	name, rest, _ := strings.Cut(strings.TrimSuffix(full, ".cluster.local"), ".")
	rest = strings.Trim(strings.Replace("."+rest+".", ".svc.", ".", 1), ".")
	context := func(alias string) int {
		return slices.IndexFunc(r.Plan.Contexts, func(c plan.ContextOptions) bool { return c.Context == alias || c.Alias == alias })
	}
	namespace, alias, hasAlias := strings.Cut(rest, ".")
	i := 0
	switch {
	case hasAlias:
		i = context(alias)
	case context(rest) > 0: // the alias of the first context may be the name of a namespace too
		i, namespace = context(rest), ""
	}
	if i < 0 {
		return id, false
	}
	c := r.Plan.Contexts[i]
	return plan.ServiceID{Context: c.Context, Namespace: cmp.Or(namespace, c.Namespace), Name: name}, true
}

// checkAddresses returns an error for an address that no service can have, or
// that two have.
func (r *Resolved) checkAddresses() error {
	owners := make(map[netip.Addr]plan.ServiceID)
	for id, options := range r.Plan.Services {
		if !options.Address.IsValid() {
			continue
		}
		if err := loopback.CheckAddress(options.Address); err != nil {
			return fmt.Errorf("service %v: %w", id, err)
		}
		if other, twice := owners[options.Address]; twice {
			return fmt.Errorf("services %v and %v have the same address %v", min(id.String(), other.String()), max(id.String(), other.String()), options.Address)
		}
		owners[options.Address] = id
	}
	return nil
}

func ports(values map[project.Port]project.Port) map[uint16]uint16 {
	mapping := make(map[uint16]uint16, len(values))
	for service, local := range values {
		mapping[uint16(service)] = uint16(local)
	}
	return mapping
}
