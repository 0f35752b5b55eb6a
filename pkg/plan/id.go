package plan

import (
	"cmp"
	"strings"

	"github.com/kubeshore/kubeshore/internal/dnsname"
)

// ServiceID identifies one Service of one cluster.
type ServiceID struct {
	Context   string // of the kubeconfig
	Namespace string
	Name      string
}

// String returns the Service as name.namespace.
func (id ServiceID) String() string { return id.Name + "." + id.Namespace }

// Compare orders by context, then namespace, then name.
func (id ServiceID) Compare(other ServiceID) int {
	return cmp.Or(
		strings.Compare(id.Context, other.Context),
		strings.Compare(id.Namespace, other.Namespace),
		strings.Compare(id.Name, other.Name),
	)
}

// PodRef identifies one pod of one cluster. The UID distinguishes it from a
// later pod of the same name.
type PodRef struct {
	Context   string
	Namespace string
	Name      string
	UID       string
}

// String returns the pod as namespace/name.
func (p PodRef) String() string { return p.Namespace + "/" + p.Name }

// HostID identifies a [Host]: a Service, or one pod of a headless Service.
type HostID struct {
	Service ServiceID
	Pod     string // the pod's host name; empty for the Service itself
}

// String returns the host as name.namespace or pod.name.namespace.
func (id HostID) String() string {
	if id.Pod == "" {
		return id.Service.String()
	}
	return id.Pod + "." + id.Service.String()
}

// DisplayName returns the host's name for users: String, with the alias of its
// context appended unless that is the first context. If the namespace would end
// the name with a number, it ends in svc: browsers don't accept web.1234.
func (id HostID) DisplayName(clusters []Cluster) string {
	for _, c := range clusters {
		if c.Context == id.Service.Context && c.Alias != "" {
			return id.String() + "." + c.Alias
		}
	}
	if name := id.String(); !dnsname.EndsInNumber(name) {
		return name
	}
	return id.String() + ".svc"
}

// Compare orders by Service, the Service itself before its pods.
func (id HostID) Compare(other HostID) int {
	return cmp.Or(id.Service.Compare(other.Service), strings.Compare(id.Pod, other.Pod))
}

// Key returns the host's identity as a string: unique, and the same on every
// run. Kubernetes names don't contain a slash, and the context, which may, comes
// last.
func (id HostID) Key() string {
	return strings.Join([]string{id.Service.Namespace, id.Service.Name, id.Pod, id.Service.Context}, "/")
}
