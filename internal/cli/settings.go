package cli

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kubeshore/kubeshore/internal/project"
	"github.com/kubeshore/kubeshore/pkg/kube"
	"github.com/kubeshore/kubeshore/pkg/loopback"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// selection is what the command line says of what is forwarded, and how it is
// called. What is nil or empty was not said.
type selection struct {
	contexts      []string
	namespaces    []string
	all           bool // namespaces
	selector      string
	fieldSelector string
	include       []string
	exclude       []string
	mapping       []string
	domain        string
	ingress       bool
	reserved      map[string]netip.Addr // by name, name.namespace or name.namespace.context

	// What was said while it runs, by context.
	added, removed map[string][]string
}

// with returns the selection with some namespaces of a context more, and without some.
func (s selection) with(context string, add, remove []string) (selection, error) {
	if err := checkNamespaces(slices.Concat(add, remove)); err != nil {
		return s, err
	}
	change := func(to map[string][]string, add, remove []string) map[string][]string {
		to = maps.Clone(to)
		if to == nil {
			to = make(map[string][]string)
		}
		to[context] = slices.DeleteFunc(slices.Concat(to[context], add), func(n string) bool { return slices.Contains(remove, n) })
		return to
	}
	s.added, s.removed = change(s.added, add, remove), change(s.removed, remove, add)
	return s, nil
}

func checkNamespaces(namespaces []string) error {
	for _, namespace := range namespaces {
		if problems := validation.ValidateNamespaceName(namespace, false); len(problems) > 0 {
			return fmt.Errorf("namespace %q is not a valid name: lower-case letters, digits and '-', 63 at most", namespace)
		}
	}
	return nil
}

// check finds what is wrong with it by itself.
func (s *selection) check() error {
	if err := checkNamespaces(s.namespaces); err != nil {
		return err
	}
	if s.all && len(s.namespaces) > 0 {
		return errors.New("--all-namespaces and --namespace can't be had together")
	}
	if _, err := labels.Parse(s.selector); err != nil {
		return fmt.Errorf("--selector: %w", err)
	}
	if _, err := fields.ParseSelector(s.fieldSelector); err != nil {
		return fmt.Errorf("--field-selector: %w", err)
	}
	for _, pattern := range slices.Concat(s.include, s.exclude) {
		if err := project.CheckPattern(pattern); err != nil {
			return err
		}
	}
	if s.domain != "" {
		if _, err := project.ParseDomain(s.domain); err != nil {
			return fmt.Errorf("--domain: %w", err)
		}
	}
	_, err := parseMapping(s.mapping)
	return err
}

// parseMapping reads port mappings as kubefwd has them: the service's port, a
// colon, the port here.
func parseMapping(texts []string) (map[uint16]uint16, error) {
	mapping := make(map[uint16]uint16, len(texts))
	for _, text := range texts {
		from, to, ok := strings.Cut(text, ":")
		there, err1 := project.ParsePort(from)
		here, err2 := project.ParsePort(to)
		if err := errors.Join(err1, err2); !ok || err != nil {
			return nil, fmt.Errorf("--mapping %q: write the service's port and the one here, as in 80:8080", text)
		}
		if _, twice := mapping[uint16(there)]; twice {
			return nil, fmt.Errorf("--mapping: port %d is there twice", there)
		}
		mapping[uint16(there)] = uint16(here)
	}
	return mapping, nil
}

// settings is what the command line and the project's file come to.
type settings struct {
	follow  []kube.Follow
	options plan.Options
	project bool     // there is a project's file
	notes   []string // what isn't quite as it was said, a line each
}

// settle puts what the command line and the project's file say together: the
// command line goes first. cluster finds a context; the empty one is the current.
func (s *selection) settle(file project.File, cluster func(context string) (*kube.Cluster, error)) (settings, error) {
	mapping, err := parseMapping(s.mapping)
	if err != nil {
		return settings{}, err
	}
	if len(s.mapping) == 0 {
		mapping = ports(file.Ports)
	}
	result := settings{options: plan.Options{
		Mapping:  mapping,
		Domain:   cmp.Or(strings.ToLower(s.domain), string(file.Domain)),
		Services: make(map[plan.ServiceID]plan.ServiceOptions),
	}}
	for _, said := range s.contextsOf(file) {
		found, err := cluster(said.Name)
		if err != nil {
			return settings{}, err
		}
		s.addContext(&result, file, said, found)
	}
	result.addServices(file.Services)
	result.reserve(s.reserved)
	return result, result.checkAddresses()
}

// contextsOf returns the contexts that are followed, with what the file says of
// them.
func (s *selection) contextsOf(file project.File) []project.Context {
	if len(s.contexts) == 0 && len(file.Contexts) > 0 {
		return file.Contexts
	}
	if len(s.contexts) == 0 {
		return []project.Context{{}}
	}
	contexts := make([]project.Context, 0, len(s.contexts))
	for _, name := range distinct(s.contexts) {
		said := project.Context{Name: name}
		if i := slices.IndexFunc(file.Contexts, func(c project.Context) bool { return c.Name == name }); i >= 0 {
			said = file.Contexts[i]
		}
		contexts = append(contexts, said)
	}
	return contexts
}

// addContext adds one context.
func (s *selection) addContext(to *settings, file project.File, said project.Context, found *kube.Cluster) {
	follow := kube.Follow{
		Context: found.Context, Labels: s.selector, Fields: s.fieldSelector, Ingresses: s.ingress || file.Ingress,
		Namespaces: s.namespacesOf(file, said, found),
	}
	options := plan.ContextOptions{
		Context:   found.Context,
		Alias:     to.alias(found.Context, cmp.Or(string(said.Alias), kube.Label(found.Context))),
		Namespace: found.Namespace,
		Include:   first(s.include, texts(said.Include), texts(file.Include)),
		Exclude:   first(s.exclude, texts(said.Exclude), texts(file.Exclude)),
	}
	if len(follow.Namespaces) > 0 {
		options.Namespace = follow.Namespaces[0]
	}
	for _, pattern := range options.Include {
		follow.Services = append(follow.Services, named(pattern, follow.Namespaces)...)
	}
	if said.IngressController != "" {
		name, namespace, _ := said.IngressController.Split()
		options.Controller = plan.ServiceID{Context: found.Context, Namespace: namespace, Name: name}
		follow.Services = append(follow.Services, options.Controller.String())
		follow.Ingresses = true
		if len(options.Include) > 0 {
			options.Include = append(slices.Clip(options.Include), options.Controller.String())
		}
	}
	to.follow = append(to.follow, follow)
	to.options.Contexts = append(to.options.Contexts, options)
}

// namespacesOf returns a context's namespaces; nil means all.
func (s *selection) namespacesOf(file project.File, said project.Context, found *kube.Cluster) []string {
	if s.all {
		return nil
	}
	namespaces := first(s.namespaces, texts(said.Namespaces), texts(file.Namespaces))
	switch {
	case slices.Contains(namespaces, "*"):
		return nil
	case len(namespaces) == 0:
		namespaces = []string{found.Namespace}
	}
	left := slices.DeleteFunc(slices.Concat(namespaces, s.added[found.Context]), func(n string) bool {
		return slices.Contains(s.removed[found.Context], n)
	})
	if len(left) == 0 { // none would mean all
		left = namespaces
	}
	return distinct(left)
}

// named returns the Services that a pattern names one by one, as
// name.namespace; none if it has wildcards.
func named(pattern string, namespaces []string) []string {
	if strings.ContainsAny(pattern, `*?[\`) {
		return nil
	}
	if strings.Contains(pattern, ".") {
		return []string{pattern}
	}
	services := make([]string, 0, len(namespaces))
	for _, namespace := range namespaces {
		services = append(services, pattern+"."+namespace)
	}
	return services
}

// alias returns the alias that was wanted for a context, or, with a note, one like
// it that no other context has.
func (s *settings) alias(context, wanted string) string {
	alias, other := wanted, ""
	for n := 2; ; n++ {
		i := slices.IndexFunc(s.options.Contexts, func(c plan.ContextOptions) bool { return c.Alias == alias })
		if i < 0 {
			break
		}
		other = cmp.Or(other, s.options.Contexts[i].Context)
		alias = fmt.Sprintf("%.60s-%d", wanted, n)
	}
	if other != "" {
		s.notes = append(s.notes, fmt.Sprintf("context %s is called %s in names, as %s stands for context %s; give it an alias in %s",
			context, alias, wanted, other, project.Name))
	}
	return alias
}

// addServices adds what the project's file says of single services.
func (s *settings) addServices(services map[project.ServiceName]project.Service) {
	for full, said := range services {
		name, namespace, alias := full.Split()
		i := slices.IndexFunc(s.options.Contexts, func(c plan.ContextOptions) bool { return alias == "" || c.Alias == alias })
		if i < 0 {
			continue // of a context that isn't followed now
		}
		options := plan.ServiceOptions{Address: said.Address.Addr, Mapping: ports(said.Ports), Names: texts(said.Names), Local: said.Local}
		s.options.Services[plan.ServiceID{Context: s.options.Contexts[i].Context, Namespace: namespace, Name: name}] = options
	}
}

// reserve gives services the addresses that the command line says, by any name
// that a service has. Those of contexts that aren't forwarded now have none.
func (s *settings) reserve(addresses map[string]netip.Addr) {
	for _, full := range slices.Sorted(maps.Keys(addresses)) {
		id, ok := s.named(full)
		if !ok {
			continue
		}
		options := s.options.Services[id]
		options.Address = addresses[full]
		s.options.Services[id] = options
	}
}

// named returns the service of a name: its own, with its namespace, svc, and its
// context or cluster.local behind it, as far as they are there.
func (s *settings) named(full string) (id plan.ServiceID, ok bool) {
	name, rest, _ := strings.Cut(strings.TrimSuffix(full, ".cluster.local"), ".")
	rest = strings.Trim(strings.Replace("."+rest+".", ".svc.", ".", 1), ".")
	context := func(alias string) int {
		return slices.IndexFunc(s.options.Contexts, func(c plan.ContextOptions) bool { return c.Context == alias || c.Alias == alias })
	}
	namespace, alias, further := strings.Cut(rest, ".")
	i := 0
	switch {
	case further:
		i = context(alias)
	case context(rest) > 0: // the first one's alias may well be a namespace's name too
		i, namespace = context(rest), ""
	}
	if i < 0 {
		return id, false
	}
	c := s.options.Contexts[i]
	return plan.ServiceID{Context: c.Context, Namespace: cmp.Or(namespace, c.Namespace), Name: name}, true
}

// checkAddresses finds addresses that services can't have, or that two have.
func (s *settings) checkAddresses() error {
	taken := make(map[netip.Addr]plan.ServiceID)
	for id, said := range s.options.Services {
		if !said.Address.IsValid() {
			continue
		}
		if err := loopback.CheckAddress(said.Address); err != nil {
			return fmt.Errorf("service %v: %w", id, err)
		}
		if other, twice := taken[said.Address]; twice {
			return fmt.Errorf("services %v and %v have the same address %v", min(id.String(), other.String()), max(id.String(), other.String()), said.Address)
		}
		taken[said.Address] = id
	}
	return nil
}

func ports(said map[project.Port]project.Port) map[uint16]uint16 {
	mapping := make(map[uint16]uint16, len(said))
	for there, here := range said {
		mapping[uint16(there)] = uint16(here)
	}
	return mapping
}

// texts returns values as plain texts.
func texts[T ~string](values []T) []string {
	result := make([]string, len(values))
	for i, v := range values {
		result[i] = string(v)
	}
	return result
}

// first returns the first list that isn't empty.
func first(lists ...[]string) []string {
	for _, list := range lists {
		if len(list) > 0 {
			return list
		}
	}
	return nil
}
