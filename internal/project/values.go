package project

import (
	"fmt"
	"net/netip"
	"path"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kubeshore/kubeshore/internal/dnsname"
	"github.com/kubeshore/kubeshore/internal/namepolicy"
	"github.com/kubeshore/kubeshore/internal/netaddr"
	"github.com/kubeshore/kubeshore/pkg/loopback"
)

// Pattern is a pattern of service names, in path.Match's syntax.
type Pattern string

// Namespace is the name of a namespace, or "*" for all.
type Namespace string

// HostPattern is a pattern of DNS names, as of namepolicy.CheckPattern.
type HostPattern string

// PublicPattern is a pattern of DNS names, which may begin with an exclamation mark.
type PublicPattern string

// Domain is a DNS name (RFC 1123), converted to lowercase, without a trailing dot.
type Domain string

// Label is a DNS label (RFC 1123).
type Label string

// ServiceName is NAME.NAMESPACE or, as a key of services, also NAME.NAMESPACE.ALIAS.
type ServiceName string

// Port is a TCP port number.
type Port uint16

// Address is an IPv4 address.
type Address struct{ netip.Addr }

// CheckPattern returns an error if text is not a valid pattern.
func CheckPattern(text string) error {
	if _, err := path.Match(text, ""); err != nil || text == "" {
		return fmt.Errorf("invalid pattern %q: must be a name, which may contain *, ? and [a-z]", text)
	}
	if !strings.ContainsAny(text, `*?[\`) && (!dnsname.IsName(text) || strings.Count(text, ".") > 1) {
		return fmt.Errorf("invalid service name %q: must be NAME or NAME.NAMESPACE", text)
	}
	return nil
}

// ParseDomain parses a DNS name in uppercase or lowercase, with or without a trailing
// dot. A name that ends in a number is refused: programs take it for an IP address,
// or for an invalid one.
func ParseDomain(text string) (Domain, error) {
	lower := strings.ToLower(strings.TrimSuffix(text, "."))
	switch {
	case len(lower) > dnsname.MaxName:
		return "", fmt.Errorf("invalid DNS name %.40q…: has %d bytes, and the limit is %d", text, len(lower), dnsname.MaxName)
	case !dnsname.IsName(lower):
		return "", fmt.Errorf("invalid DNS name %q: must be letters, digits and '-', separated by dots", text)
	case dnsname.EndsInNumber(lower):
		return "", fmt.Errorf("invalid DNS name %q: must not be an IP address or end in a number", text)
	}
	return Domain(lower), nil
}

// ParsePort parses a port number.
func ParsePort(text string) (Port, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("invalid port %q: must be a number from 1 to 65535", text)
	}
	return Port(n), nil
}

// Split returns the parts of the name. The alias may be empty.
func (s ServiceName) Split() (name, namespace, alias string) {
	parts := strings.SplitN(string(s), ".", 3)
	parts = append(parts, "", "")
	return parts[0], parts[1], parts[2]
}

// parseScalar calls read with a scalar's text, and adds the line to its error.
func parseScalar(node *yaml.Node, read func(text string) error) error {
	if node.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: must be a single value, not %s", node.Line, describe(node))
	}
	if err := read(node.Value); err != nil {
		return fmt.Errorf("line %d: %w", node.Line, err)
	}
	return nil
}

// UnmarshalYAML accepts a pattern that CheckPattern accepts.
func (p *Pattern) UnmarshalYAML(node *yaml.Node) error {
	return parseScalar(node, func(text string) error {
		*p = Pattern(text)
		return CheckPattern(text)
	})
}

// UnmarshalYAML accepts a pattern that namepolicy.CheckPattern accepts. Files of
// earlier versions have true, which meant all hosts.
func (h *HostPattern) UnmarshalYAML(node *yaml.Node) error {
	if node.ShortTag() == "!!bool" {
		return fmt.Errorf("line %d: must be a list of patterns of hosts, e.g. [\"*.test.example.com\"], or [\"*\"] for all", node.Line)
	}
	return parseScalar(node, func(text string) error {
		*h = HostPattern(text)
		return namepolicy.CheckPattern(text)
	})
}

// UnmarshalYAML accepts a pattern that namepolicy.CheckPublicPattern accepts.
func (p *PublicPattern) UnmarshalYAML(node *yaml.Node) error {
	if strings.HasPrefix(node.Tag, "!") && !strings.HasPrefix(node.Tag, "!!") {
		return fmt.Errorf("line %d: put the pattern in quotes: %q", node.Line, node.Tag)
	}
	return parseScalar(node, func(text string) error {
		*p = PublicPattern(text)
		return namepolicy.CheckPublicPattern(text)
	})
}

// UnmarshalYAML accepts a DNS label or "*".
func (n *Namespace) UnmarshalYAML(node *yaml.Node) error {
	return parseScalar(node, func(text string) error {
		*n = Namespace(text)
		if text != "*" && !dnsname.IsLabel(text) {
			return fmt.Errorf("invalid namespace %q: must be lowercase letters, digits and '-', or \"*\" for all", text)
		}
		return nil
	})
}

// UnmarshalYAML accepts a name that ParseDomain accepts.
func (d *Domain) UnmarshalYAML(node *yaml.Node) error {
	return parseScalar(node, func(text string) (err error) {
		*d, err = ParseDomain(text)
		return err
	})
}

// UnmarshalYAML accepts a DNS label.
func (l *Label) UnmarshalYAML(node *yaml.Node) error {
	return parseScalar(node, func(text string) error {
		*l = Label(text)
		if !dnsname.IsLabel(text) {
			return fmt.Errorf("invalid DNS label %q: must be at most 63 lowercase letters, digits and '-'", text)
		}
		return nil
	})
}

// UnmarshalYAML accepts a name with a namespace.
func (s *ServiceName) UnmarshalYAML(node *yaml.Node) error {
	return parseScalar(node, func(text string) error {
		*s = ServiceName(text)
		if !dnsname.IsName(text) || !strings.Contains(text, ".") {
			return fmt.Errorf("invalid service name %q: must be NAME.NAMESPACE", text)
		}
		return nil
	})
}

// UnmarshalYAML accepts a number that ParsePort accepts.
func (p *Port) UnmarshalYAML(node *yaml.Node) error {
	return parseScalar(node, func(text string) (err error) {
		*p, err = ParsePort(text)
		return err
	})
}

// UnmarshalYAML accepts an IPv4 loopback address.
func (a *Address) UnmarshalYAML(node *yaml.Node) error {
	return parseScalar(node, func(text string) (err error) {
		a.Addr, err = netip.ParseAddr(text)
		if err != nil || !a.Is4() {
			return fmt.Errorf("invalid IPv4 address %q", text)
		}
		if a.Addr == netaddr.Localhost {
			return fmt.Errorf("address %v is this machine's own; for a service that runs here, use local: true", a.Addr)
		}
		return loopback.CheckAddress(a.Addr)
	})
}
