package project

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kubeshore/kubeshore/pkg/loopback"
)

// Pattern is one of services, as path.Match takes it.
type Pattern string

// Namespace is the name of one, or "*" for all.
type Namespace string

// Domain is a DNS name (RFC 1123), in lower case: as names, they are the same.
type Domain string

// Label is a DNS label (RFC 1123).
type Label string

// ServiceName is name.namespace or, in services, name.namespace.alias.
type ServiceName string

// Port is the number of a TCP port.
type Port uint16

// Address is an IPv4 address.
type Address struct{ netip.Addr }

var label = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// CheckPattern tells what is wrong with a pattern.
func CheckPattern(text string) error {
	if _, err := path.Match(text, ""); err != nil || text == "" {
		return fmt.Errorf("%q is no pattern of names: use * and ? in it, or [a-z]", text)
	}
	if !strings.ContainsAny(text, `*?[\`) && (!isDomain(text) || strings.Count(text, ".") > 1) {
		return fmt.Errorf("%q is no name of a service: write name, or name.namespace", text)
	}
	return nil
}

// ParseDomain reads a DNS name.
func ParseDomain(text string) (Domain, error) {
	lower := strings.ToLower(text)
	if !isDomain(lower) {
		return "", fmt.Errorf("%q is no DNS name: letters, digits and '-' between dots", text)
	}
	return Domain(lower), nil
}

// isDomain tells whether a text is a DNS name as Kubernetes has them.
func isDomain(text string) bool {
	for part := range strings.SplitSeq(text, ".") {
		if !label.MatchString(part) {
			return false
		}
	}
	return len(text) <= 253
}

// ParsePort reads a port's number.
func ParsePort(text string) (Port, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no port: a number from 1 to 65535", text)
	}
	return Port(n), nil
}

// Split returns the parts of a service's name; alias is often empty.
func (s ServiceName) Split() (name, namespace, alias string) {
	parts := strings.SplitN(string(s), ".", 3)
	parts = append(parts, "", "")
	return parts[0], parts[1], parts[2]
}

// scalar reads a value by a function, whose error it gives a line.
func scalar(node *yaml.Node, read func(text string) error) error {
	if node.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: a %s where one value belongs", node.Line, map[yaml.Kind]string{yaml.MappingNode: "mapping", yaml.SequenceNode: "list"}[node.Kind])
	}
	if err := read(node.Value); err != nil {
		return fmt.Errorf("line %d: %w", node.Line, err)
	}
	return nil
}

// UnmarshalYAML takes what CheckPattern does.
func (p *Pattern) UnmarshalYAML(node *yaml.Node) error {
	return scalar(node, func(text string) error {
		*p = Pattern(text)
		return CheckPattern(text)
	})
}

// UnmarshalYAML takes a DNS label or "*".
func (n *Namespace) UnmarshalYAML(node *yaml.Node) error {
	return scalar(node, func(text string) error {
		*n = Namespace(text)
		if text != "*" && !label.MatchString(text) {
			return fmt.Errorf("%q is no namespace: lower-case letters, digits and '-', or \"*\" for all", text)
		}
		return nil
	})
}

// UnmarshalYAML takes what ParseDomain does.
func (d *Domain) UnmarshalYAML(node *yaml.Node) error {
	return scalar(node, func(text string) (err error) {
		*d, err = ParseDomain(text)
		return err
	})
}

// UnmarshalYAML takes a DNS label.
func (l *Label) UnmarshalYAML(node *yaml.Node) error {
	return scalar(node, func(text string) error {
		*l = Label(text)
		if !label.MatchString(text) {
			return fmt.Errorf("%q is no DNS label: lower-case letters, digits and '-', 63 at most", text)
		}
		return nil
	})
}

// UnmarshalYAML takes a name with a namespace.
func (s *ServiceName) UnmarshalYAML(node *yaml.Node) error {
	return scalar(node, func(text string) error {
		*s = ServiceName(text)
		if !isDomain(text) || !strings.Contains(text, ".") {
			return fmt.Errorf("%q is no service: write name.namespace", text)
		}
		return nil
	})
}

// UnmarshalYAML takes what ParsePort does.
func (p *Port) UnmarshalYAML(node *yaml.Node) error {
	return scalar(node, func(text string) (err error) {
		*p, err = ParsePort(text)
		return err
	})
}

// UnmarshalYAML takes an IPv4 address.
func (a *Address) UnmarshalYAML(node *yaml.Node) error {
	return scalar(node, func(text string) (err error) {
		a.Addr, err = netip.ParseAddr(text)
		if err != nil || !a.Is4() {
			return errors.New(strconv.Quote(text) + " is no IPv4 address")
		}
		if a.Addr == netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
			return fmt.Errorf("address %v is this machine's own; for a service that runs on it write local: true instead", a.Addr)
		}
		return loopback.CheckAddress(a.Addr)
	})
}
