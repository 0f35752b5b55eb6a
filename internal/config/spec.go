package config

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kubeshore/kubeshore/internal/dnsname"
	"github.com/kubeshore/kubeshore/internal/project"
)

// Spec is the configuration on the command line. If a field is nil or empty, the
// project file decides.
type Spec struct {
	Contexts      []string
	Namespaces    []string
	AllNamespaces bool
	LabelSelector string
	FieldSelector string
	Include       []string // patterns of services
	Exclude       []string
	Ports         map[uint16]uint16 // local ports by service port
	Domain        string
	Names         Names
	PublicNames   []string // patterns, namepolicy.CheckPublicPattern
	Ingress       []string // patterns, namepolicy.CheckPattern
	// Addresses has the addresses of services, by name, name.namespace or
	// name.namespace.context.
	Addresses map[string]netip.Addr

	// The namespaces that were added and removed at run time, by context.
	added, removed map[string][]string
}

// Check returns the first error in the spec, as an error of the command line.
func (s *Spec) Check() error {
	if err := checkNamespaces(s.Namespaces); err != nil {
		return err
	}
	if s.AllNamespaces && len(s.Namespaces) > 0 {
		return errors.New("--all-namespaces and --namespace are mutually exclusive")
	}
	if _, err := labels.Parse(s.LabelSelector); err != nil {
		return fmt.Errorf("invalid --selector %q: %w", s.LabelSelector, err)
	}
	if _, err := fields.ParseSelector(s.FieldSelector); err != nil {
		return fmt.Errorf("invalid --field-selector %q: %w", s.FieldSelector, err)
	}
	for _, pattern := range slices.Concat(s.Include, s.Exclude) {
		if err := project.CheckPattern(pattern); err != nil {
			return err
		}
	}
	if err := s.checkNames(); err != nil {
		return err
	}
	if s.Domain == "" {
		return nil
	}
	if s.Names == NamesFull {
		return errors.New("--domain and --names full are mutually exclusive")
	}
	if _, err := project.ParseDomain(s.Domain); err != nil {
		return fmt.Errorf("invalid --domain %q: must be letters, digits and '-', separated by dots", s.Domain)
	}
	return nil
}

func checkNamespaces(namespaces []string) error {
	for _, namespace := range namespaces {
		if !dnsname.IsLabel(namespace) {
			return fmt.Errorf("invalid namespace %q: must be lowercase letters, digits and '-', at most %d", namespace, dnsname.MaxLabel)
		}
	}
	return nil
}

// ParsePorts parses port mappings of the form SERVICE_PORT:LOCAL_PORT, as in kubefwd.
func ParsePorts(mappings []string) (map[uint16]uint16, error) {
	parsed := make(map[uint16]uint16, len(mappings))
	for _, text := range mappings {
		from, to, ok := strings.Cut(text, ":")
		service, err1 := project.ParsePort(from)
		local, err2 := project.ParsePort(to)
		if !ok || err1 != nil || err2 != nil {
			return nil, fmt.Errorf("invalid --mapping %q: must be two ports from 1 to 65535, SERVICE_PORT:LOCAL_PORT, e.g. 80:8080", text)
		}
		if _, twice := parsed[uint16(service)]; twice {
			return nil, fmt.Errorf("invalid --mapping %q: port %d is mapped twice", text, service)
		}
		parsed[uint16(service)] = uint16(local)
	}
	return parsed, nil
}

// change returns the spec with namespaces of a context added and removed.
func (s Spec) change(context string, add, remove []string) (Spec, error) {
	if err := checkNamespaces(slices.Concat(add, remove)); err != nil {
		return s, err
	}
	s.added, s.removed = edit(s.added, context, add, remove), edit(s.removed, context, remove, add)
	return s, nil
}

// edit returns a copy of lists in which a context's list has some values added
// and removed.
func edit(lists map[string][]string, context string, add, remove []string) map[string][]string {
	lists = maps.Clone(lists)
	if lists == nil {
		lists = make(map[string][]string)
	}
	lists[context] = slices.DeleteFunc(slices.Concat(lists[context], add), func(n string) bool { return slices.Contains(remove, n) })
	return lists
}

// namespaces returns the namespaces of a context; nil means all.
func (s *Spec) namespaces(file project.File, of project.Context, context, own string) []string {
	if s.AllNamespaces {
		return nil
	}
	namespaces := firstNonEmpty(s.Namespaces, texts(of.Namespaces), texts(file.Namespaces))
	switch {
	case slices.Contains(namespaces, "*"):
		return nil
	case len(namespaces) == 0:
		namespaces = []string{own}
	}
	left := slices.DeleteFunc(slices.Concat(namespaces, s.added[context]), func(n string) bool {
		return slices.Contains(s.removed[context], n)
	})
	if len(left) == 0 { // an empty list would mean all
		left = namespaces
	}
	return distinct(left)
}

// contexts returns the contexts to follow, with their configuration in the file.
func (s *Spec) contexts(file project.File) []project.Context {
	if len(s.Contexts) == 0 && len(file.Contexts) > 0 {
		return file.Contexts
	}
	if len(s.Contexts) == 0 {
		return []project.Context{{}}
	}
	contexts := make([]project.Context, 0, len(s.Contexts))
	for _, name := range distinct(s.Contexts) {
		context := project.Context{Name: name}
		if i := slices.IndexFunc(file.Contexts, func(c project.Context) bool { return c.Name == name }); i >= 0 {
			context = file.Contexts[i]
		}
		contexts = append(contexts, context)
	}
	return contexts
}

// distinct returns the values without repetitions, in their order.
func distinct(values []string) []string {
	var result []string
	for _, v := range values {
		if !slices.Contains(result, v) {
			result = append(result, v)
		}
	}
	return result
}

// texts returns values as plain strings.
func texts[T ~string](values []T) []string {
	result := make([]string, len(values))
	for i, v := range values {
		result[i] = string(v)
	}
	return result
}

// firstNonEmpty returns the first list that isn't empty.
func firstNonEmpty(lists ...[]string) []string {
	for _, list := range lists {
		if len(list) > 0 {
			return list
		}
	}
	return nil
}
