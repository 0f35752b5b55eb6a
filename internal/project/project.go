// Package project reads a project's file, kubeshore.yaml: what a team says once
// of the services that its programs need.
package project

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Name is what the file is called.
const Name = "kubeshore.yaml"

// File is what a project's file says. Flags go before it.
type File struct {
	// The contexts of the kubeconfig that are forwarded from; the first one's
	// services have the names that they have in their cluster. Default: the
	// current context.
	Contexts []Context `yaml:"contexts,omitempty"`
	// The namespaces of contexts that don't name their own; "*" means all. The
	// services of the first one answer to their bare names. Default: the
	// context's namespace.
	Namespaces []Namespace `yaml:"namespaces,omitempty"`
	// Patterns of the services that are forwarded, of the name or, with a dot,
	// of name.namespace, for contexts that have none of their own. Default: all.
	Include []Pattern `yaml:"include,omitempty"`
	// Patterns of the services that are not.
	Exclude []Pattern `yaml:"exclude,omitempty"`
	// One more suffix for every short name.
	Domain Domain `yaml:"domain,omitempty"`
	// The ports here of services' ports.
	Ports map[Port]Port `yaml:"ports,omitempty"`
	// Whether the hosts of Ingresses are names too, of their controller's service.
	Ingress bool `yaml:"ingress,omitempty"`
	// What is said of single services, by name.namespace, or name.namespace.alias
	// for those of a further context.
	Services map[ServiceName]Service `yaml:"services,omitempty"`
}

// Context is what is said of one context.
type Context struct {
	// Its name in the kubeconfig.
	Name string `yaml:"name"`
	// What it is called in names of services, if it isn't the first. Default: its
	// name, as far as that makes a DNS label.
	Alias Label `yaml:"alias,omitempty"`
	// Its namespaces; "*" means all.
	Namespaces []Namespace `yaml:"namespaces,omitempty"`
	// Patterns of its services that are forwarded.
	Include []Pattern `yaml:"include,omitempty"`
	// Patterns of those that are not.
	Exclude []Pattern `yaml:"exclude,omitempty"`
	// The service that its Ingresses are reached through, as name.namespace, where
	// their status doesn't tell.
	IngressController ServiceName `yaml:"ingressController,omitempty"`
}

// Service is what is said of one service.
type Service struct {
	// Its address here.
	Address Address `yaml:"address,omitempty"`
	// The ports here of its ports.
	Ports map[Port]Port `yaml:"ports,omitempty"`
	// More names for it.
	Names []Domain `yaml:"names,omitempty"`
	// Whether it runs on this machine: its names lead to 127.0.0.1, and nothing is
	// forwarded.
	Local bool `yaml:"local,omitempty"`
}

// Find returns the path of the file of the project that a folder belongs to:
// the folder's own, or that of the nearest one above it. It is empty if there is
// none.
func Find(folder string) (string, error) {
	for {
		path := filepath.Join(folder, Name)
		_, err := os.Stat(path)
		if err == nil {
			return path, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("project's file: %w", err)
		}
		above := filepath.Dir(folder)
		if above == folder {
			return "", nil
		}
		folder = above
	}
}

// Load reads the file at path. Its error is one line, with the line of the file.
func Load(path string) (File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return File{}, fmt.Errorf("project's file: %w", err)
	}
	file, err := parse(data)
	if err != nil {
		return File{}, fmt.Errorf("project's file %s", strings.Join(Faults(path, err), "; "))
	}
	return file, nil
}

func parse(data []byte) (file File, err error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return File{}, err
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return File{}, errors.New("it has more than one document")
	}
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		return File{}, err
	}
	return file, file.check(&root)
}

// check finds what is wrong with the whole, where each part is right. root is the
// document that the file was read from.
func (f File) check(root *yaml.Node) error {
	contexts, aliases, reserved := make(map[string]bool), make(map[Label]bool), make(map[netip.Addr]ServiceName)
	for i, c := range f.Contexts {
		at := strconv.Itoa(i)
		switch {
		case c.Name == "":
			return faultAt(root, "contexts: one has no name", "contexts", at)
		case contexts[c.Name]:
			return faultAt(root, fmt.Sprintf("contexts: %s is there twice", c.Name), "contexts", at, "name")
		case c.Alias != "" && aliases[c.Alias]:
			return faultAt(root, fmt.Sprintf("contexts: two have the alias %s", c.Alias), "contexts", at, "alias")
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
			return faultAt(root, fmt.Sprintf("services: %s runs on this machine, so it has no address of its own", name), "services", string(name), "address")
		case taken:
			return faultAt(root, fmt.Sprintf("services: %s and %s have the same address %v", other, name, at), "services", string(name), "address")
		default:
			reserved[at] = name
		}
	}
	return nil
}

// faultAt is a fault of what a path of keys, and of indexes of lists, leads to, as
// far as it leads.
func faultAt(root *yaml.Node, text string, path ...string) error {
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

// child returns the value of a mapping's key, or a list's value by its index; nil
// if there is none.
func child(of *yaml.Node, part string) *yaml.Node {
	if of.Kind == yaml.AliasNode {
		of = of.Alias
	}
	for i, n := range of.Content {
		switch {
		case of.Kind == yaml.SequenceNode && strconv.Itoa(i) == part:
			return n
		case of.Kind == yaml.MappingNode && i%2 == 0 && n.Value == part:
			return of.Content[i+1]
		}
	}
	return nil
}

// lineOf is how the YAML library says where it found a fault.
var lineOf = regexp.MustCompile(`^(?:yaml: )?(?:unmarshal errors: +)?line (\d+): (.*)$`)

// unknown is how it says that it doesn't know a field.
var unknown = regexp.MustCompile(`^field (\S+) not found in type .+$`)

// wrongType is how it says that a value is none of the right type.
var wrongType = regexp.MustCompile("^cannot unmarshal !!(\\w+)(?: `(.*)`)? into (.*)$")

// Faults says what is wrong with a YAML file by the error of reading it, a line
// each, with the file's line.
func Faults(path string, err error) []string {
	var wrong *yaml.TypeError
	texts := []string{err.Error()}
	if errors.As(err, &wrong) {
		texts = slices.Clone(wrong.Errors)
	}
	for i, text := range texts {
		at, text := path, strings.Join(strings.Fields(text), " ")
		if found := lineOf.FindStringSubmatch(text); found != nil {
			at, text = path+":"+found[1], found[2]
		}
		if found := unknown.FindStringSubmatch(text); found != nil {
			text = "unknown field " + found[1]
		}
		if found := wrongType.FindStringSubmatch(text); found != nil {
			text = fmt.Sprintf("%q is no %s", found[2], kindOf(found[3]))
			if found[2] == "" {
				text = fmt.Sprintf("a %s is no %s", kinds[found[1]], kindOf(found[3]))
			}
		}
		texts[i] = at + ": " + text
	}
	return texts
}

// kinds are YAML's tags, in words.
var kinds = map[string]string{"map": "mapping", "seq": "list", "str": "text", "int": "number", "bool": "true or false", "float": "number", "null": "nothing"}

// kindOf is what a Go type is to somebody who writes YAML.
func kindOf(goType string) string {
	switch {
	case strings.HasPrefix(goType, "[]"):
		return "list"
	case goType == "bool":
		return "true or false"
	case goType == "string":
		return "text"
	}
	return "mapping"
}
