// Package namepolicy decides which names a cluster may map on this machine. The
// plan applies the policy, and the keeper does so again, by its own command
// line. The package has no state and reads nothing.
package namepolicy

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/kubeshore/kubeshore/internal/dnsname"
)

// Policy is the user's decision about names. The zero value permits the names
// of clusters, and short names that hide no public ones.
type Policy struct {
	// Full permits only the names of clusters, and names that Patterns allows.
	Full bool
	// Patterns lists patterns of names that the user asked for, in the syntax of
	// CheckPattern. A name that a pattern with ! matches is refused, whatever the
	// others say, unless it is in a cluster's domain (IsClusterName).
	Patterns []string
	// Reserved has names that lead to other machines which kubeshore needs, or to
	// this one. The values are what they are used for.
	Reserved map[string]string
}

// Refusal is the reason why a name must not be written.
type Refusal struct {
	Name string
	Why  string // a clause about the name, the same for all names with that reason
	// Public is the top-level domain if the user could allow the name by a pattern
	// of public names; otherwise empty.
	Public string
}

// Error returns the reason in a sentence.
func (r *Refusal) Error() string { return fmt.Sprintf("name %s is not written: %s", r.Name, r.Why) }

// Check returns the reason why a name must not be written; nil if it may.
func (p Policy) Check(name string) *Refusal {
	refuse := func(format string, args ...any) *Refusal {
		return &Refusal{Name: name, Why: fmt.Sprintf(format, args...)}
	}
	domain, public := Public(name)
	allowed, forbidden := p.match(name)
	switch {
	case len(name) > dnsname.MaxName:
		return &Refusal{Name: fmt.Sprintf("%.40q…", name), Why: fmt.Sprintf("it has %d bytes, and the limit is %d", len(name), dnsname.MaxName)}
	case !dnsname.IsName(name):
		return &Refusal{Name: fmt.Sprintf("%q", name), Why: "it is not a valid DNS name"}
	case dnsname.IsAddress(name):
		return refuse("programs take it for an IP address")
	case p.Reserved[name] != "":
		return refuse("it is %s", p.Reserved[name])
	case IsClusterName(name):
		return nil
	case neverWritten(name) != "":
		return refuse("%s", neverWritten(name))
	case forbidden != "":
		return refuse("%s forbids it", forbidden)
	case allowed:
		return nil
	case p.Full:
		return refuse("only full names are written")
	case public:
		return &Refusal{Name: name, Why: fmt.Sprintf("it could hide a public name, because .%s is a top-level domain", domain), Public: domain}
	}
	return nil
}

// match reports whether a pattern allows the name, and returns the pattern that
// forbids it, if there is one.
func (p Policy) match(name string) (allowed bool, forbidden string) {
	for _, pattern := range p.Patterns {
		if negated, isNegated := strings.CutPrefix(pattern, "!"); !isNegated {
			allowed = allowed || Match(pattern, name)
		} else if Match(negated, name) {
			forbidden = pattern
		}
	}
	return allowed, forbidden
}

// Match reports whether a pattern without ! matches a name. An asterisk matches
// dots too: *.test matches web.test and web.shop.test.
func Match(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

// CheckPattern returns an error unless text is a pattern of names in lowercase,
// with the wildcards *, ? and [a-z].
func CheckPattern(text string) error {
	_, err := path.Match(text, "")
	if err != nil || text == "" || strings.Trim(text, "abcdefghijklmnopqrstuvwxyz0123456789-.*?[]^") != "" {
		return fmt.Errorf("invalid pattern %q: must be a name in lowercase, which may contain *, ? and [a-z]", text)
	}
	return nil
}

// CheckPublicPattern is CheckPattern for a pattern that may begin with !.
func CheckPublicPattern(text string) error {
	if err := CheckPattern(strings.TrimPrefix(text, "!")); err != nil {
		return errors.New(err.Error() + "; a leading ! forbids names")
	}
	return nil
}

// IsClusterName reports whether a name is in the domain of a cluster's Services:
// NAME.NAMESPACE.svc or the same with .cluster.local.
func IsClusterName(name string) bool {
	short, ok := strings.CutSuffix(strings.TrimSuffix(name, ".cluster.local"), ".svc")
	return ok && strings.Contains(short, ".")
}

// internalDomains are the domains of names that container runtimes give to this
// machine and their virtual machines, e.g. host.docker.internal.
var internalDomains = []string{
	".docker.internal", ".containers.internal", ".minikube.internal", ".k3d.internal", ".lima.internal", ".rancher-desktop.internal",
}

// metadataNames are the names of the metadata servers of Google's and Amazon's clouds.
// The short ones are completed by a search domain there.
var metadataNames = []string{"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"}

// neverWritten returns why no Service may have a name, whatever the user allows;
// empty if there is no such reason.
func neverWritten(name string) string {
	first, _, dotted := strings.Cut(name, ".")
	switch {
	case slices.Contains([]string{"localhost", "localhost4", "localhost6"}, first), strings.HasSuffix(name, ".localhost"), name == "broadcasthost",
		!dotted && strings.HasPrefix(name, "ip6-"):
		return "it is reserved for this machine" // RFC 6761, section 6.3, and the hosts files of systems
	case first == "wpad":
		return "programs look for their web proxy by it"
	case first == "isatap":
		return "systems look for an IPv6 router by it" // RFC 5214, section 8.3.2
	case slices.Contains(metadataNames, name):
		return "programs look for the credentials of a cloud by it"
	case slices.ContainsFunc(internalDomains, func(domain string) bool { return strings.HasSuffix(name, domain) }):
		return "container runtimes use it for this machine"
	}
	return ""
}

// OwnNames returns the names in Policy.Reserved of a machine with the given host
// name, which may be fully qualified.
func OwnNames(hostName string) map[string]string {
	full := strings.ToLower(strings.TrimSuffix(hostName, "."))
	short, _, _ := strings.Cut(full, ".")
	names := map[string]string{full: "this machine's own name", short: "this machine's own name"}
	delete(names, "") // the host name is unknown
	return names
}
