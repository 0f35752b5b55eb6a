// Package project reads a project file, kubeshore.yaml, in which a team configures
// the services that its programs need.
package project

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Name is the name of a project file.
const Name = "kubeshore.yaml"

// File is the content of a project file. Flags take precedence over it.
type File struct {
	// The contexts of the kubeconfig to forward from. Services of the first one
	// keep the names that they have in their cluster. Default: the current
	// context.
	Contexts []Context `yaml:"contexts,omitempty"`
	// The namespaces of contexts that don't list their own; "*" means all. Short
	// names resolve to the first one. Default: the context's namespace.
	Namespaces []Namespace `yaml:"namespaces,omitempty"`
	// Patterns of the services to forward, for contexts that don't list their own.
	// A pattern matches NAME or, if it contains a dot, NAME.NAMESPACE. Default:
	// all services.
	Include []Pattern `yaml:"include,omitempty"`
	// Patterns of the services not to forward, for contexts that don't list their
	// own.
	Exclude []Pattern `yaml:"exclude,omitempty"`
	// Whether services have short names too (web.shop, web), not only those that end in
	// svc.cluster.local or svc. Default: true.
	ShortNames *bool `yaml:"shortNames,omitempty"`
	// Additional domain suffix for short names.
	Domain Domain `yaml:"domain,omitempty"`
	// Local ports for the ports of all services, e.g. {80: 8080}.
	Ports map[Port]Port `yaml:"ports,omitempty"`
	// Patterns of the Ingress hosts to resolve to their controller's service; "*"
	// means all.
	Ingress []HostPattern `yaml:"ingress,omitempty"`
	// Patterns of short names to resolve although they could hide public names, e.g.
	// "*.dev". A short name that a pattern with a leading ! matches is never resolved.
	// Default: names in the namespaces and aliases listed here.
	PublicNames []PublicPattern `yaml:"publicNames,omitempty"`
	// Settings of single services, by NAME.NAMESPACE or, for those that aren't in
	// the first context, NAME.NAMESPACE.ALIAS.
	Services map[ServiceName]Service `yaml:"services,omitempty"`
}

// Context is the configuration of one context.
type Context struct {
	// The context's name in the kubeconfig.
	Name string `yaml:"name"`
	// The suffix of its services' names, unless it is the first context. Default:
	// the context's name, converted to a DNS label.
	Alias Label `yaml:"alias,omitempty"`
	// The namespaces to forward; "*" means all.
	Namespaces []Namespace `yaml:"namespaces,omitempty"`
	// Patterns of the services to forward.
	Include []Pattern `yaml:"include,omitempty"`
	// Patterns of the services not to forward.
	Exclude []Pattern `yaml:"exclude,omitempty"`
	// The service of the ingress controller, as NAME.NAMESPACE. Needed if the
	// status of Ingresses doesn't refer to it, or refers to several services.
	IngressController ServiceName `yaml:"ingressController,omitempty"`
}

// Service is the configuration of one service.
type Service struct {
	// The service's local address.
	Address Address `yaml:"address,omitempty"`
	// Local ports for the service's ports.
	Ports map[Port]Port `yaml:"ports,omitempty"`
	// Additional names of the service.
	Names []Domain `yaml:"names,omitempty"`
	// Whether the service runs on this machine: its names resolve to 127.0.0.1, and
	// it isn't forwarded.
	Local bool `yaml:"local,omitempty"`
	// Whether the service's pods have names and addresses of their own, which also
	// lists them in the status. Default: up to 1,024 pods of a headless service do;
	// those of any other have names, but are not listed, if it has at most 16 pods, and
	// up to 256 of all such services.
	PodNames *bool `yaml:"podNames,omitempty"`
}

// Load reads the file at path. Its error is one line, with line numbers of the file.
func Load(path string) (File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return File{}, fmt.Errorf("project file: %w", err)
	}
	return parseFile(path, data)
}

func parseFile(path string, data []byte) (File, error) {
	file, problems := parse(path, data)
	if len(problems) > 0 {
		return File{}, fmt.Errorf("project file %s", strings.Join(problems, "; "))
	}
	return file, nil
}

// parse returns the file with that content, or its problems.
func parse(path string, data []byte) (file File, problems []string) {
	root, c, err := decode(data, &file)
	found := slices.Concat(c.unknown, c.problems)
	slices.SortStableFunc(found, func(a, b problem) int { return cmp.Compare(a.line, b.line) })
	if len(found) == 0 && err == nil && root != nil {
		err = file.check(root)
	}
	return file, append(lines(path, found), syntaxProblems(path, err)...)
}

// check returns an error if fields conflict that are valid on their own. root is
// the document that f was decoded from.
func (f File) check(root *yaml.Node) error {
	if f.Domain != "" && f.ShortNames != nil && !*f.ShortNames {
		return errorAt(root, "domain and shortNames: false are mutually exclusive", "domain")
	}
	contexts, aliases, reserved := make(map[string]bool), make(map[Label]bool), make(map[netip.Addr]ServiceName)
	for i, c := range f.Contexts {
		at := strconv.Itoa(i)
		switch {
		case c.Name == "":
			return errorAt(root, "a context has no name", "contexts", at)
		case contexts[c.Name]:
			return errorAt(root, fmt.Sprintf("context %s is listed twice", c.Name), "contexts", at, "name")
		case c.Alias != "" && aliases[c.Alias]:
			return errorAt(root, fmt.Sprintf("two contexts have the alias %s", c.Alias), "contexts", at, "alias")
		}
		aliases[c.Alias] = true
		contexts[c.Name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(f.Services)) {
		s := f.Services[name]
		at := s.Address.Addr
		switch other, taken := reserved[at]; {
		case !at.IsValid():
		case s.Local:
			return errorAt(root, fmt.Sprintf("service %s: local and address are mutually exclusive", name), "services", string(name), "address")
		case taken:
			return errorAt(root, fmt.Sprintf("services %s and %s have the same address %v", other, name, at), "services", string(name), "address")
		default:
			reserved[at] = name
		}
	}
	return nil
}

// errorAt returns an error with the line of the node that a path of keys and list
// indexes refers to, or of the last node on the path that exists.
func errorAt(root *yaml.Node, text string, path ...string) error {
	at := root.Content[0]
	for _, part := range path {
		next := child(at, part)
		if next == nil {
			break
		}
		at = next
	}
	return fmt.Errorf("line %d: %s", at.Line, text)
}

// child returns a mapping's value by its key, or a list's item by its index; nil if
// there is none.
func child(parent *yaml.Node, part string) *yaml.Node {
	if parent.Kind == yaml.AliasNode {
		parent = parent.Alias
	}
	for i, n := range parent.Content {
		switch {
		case parent.Kind == yaml.SequenceNode && strconv.Itoa(i) == part:
			return n
		case parent.Kind == yaml.MappingNode && i%2 == 0 && n.Value == part:
			return parent.Content[i+1]
		}
	}
	return nil
}
