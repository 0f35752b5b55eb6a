package plan

import (
	"net/netip"
	"time"
)

// Snapshot is the state of the watched Services and their endpoints at one
// moment. It is immutable.
type Snapshot struct {
	Clusters []Cluster
	// Services lists each Service once, in any order.
	Services []Service
	// Ingresses lists the Ingresses in any order.
	Ingresses []Ingress
}

// Cluster is one context of the kubeconfig.
type Cluster struct {
	Context string
	Alias   string // suffix of its names; empty for the first context
	Server  string // the API server's address without credentials; empty if unknown
	// Read lists the namespaces that were read, or whose read errors are in
	// Problems. The empty name means all namespaces. Plan ignores it.
	Read []string
	// Problems lists read errors and configuration errors, one line each.
	Problems []string
	// Notes lists missing permissions that have a replacement, one line each.
	Notes []string
}

// Ingress is the part of an Ingress that concerns names.
type Ingress struct {
	ID    ServiceID // the Ingress's own
	Hosts []string  // the hosts in its rules; the first label may be a wildcard
	// Controllers lists the Services in its load-balancer status, or the first two: an
	// Ingress with several is ambiguous.
	Controllers []ServiceID
}

// Service is one Service with the endpoints in its EndpointSlices.
type Service struct {
	ID ServiceID
	// Headless is set if the Service has no cluster IP: clients connect to its
	// pods directly.
	Headless bool
	// ExternalName is the DNS name that an ExternalName Service refers to.
	ExternalName string
	// ExternalEndpoint is the address of one endpoint if there are endpoints and
	// none of them is a pod; otherwise empty.
	ExternalEndpoint string
	// Selectorless is set if the Service selects no pods: its endpoints, if any, are
	// written by somebody else.
	Selectorless bool
	// Denied is why the user may not forward to pods of the Service, a line; empty if
	// they may, or if that is unknown.
	Denied string
	// AffinityTimeout is how long after a client's last connection its next
	// connection goes to the same pod (sessionAffinity: ClientIP); 0 without
	// affinity.
	AffinityTimeout time.Duration
	Ports           []ServicePort
	// Endpoints lists each pod behind the Service once, sorted by name.
	Endpoints []Endpoint
	// Problems lists errors in the Service and its EndpointSlices, one line each.
	Problems []string
}

// ServicePort is one port of a Service's spec.
type ServicePort struct {
	Name     string // may be empty if it is the only port
	Protocol string // TCP, UDP or SCTP
	Number   uint16 // the port that clients connect to
	Target   string // the targetPort's name; empty if it is a number
}

// Endpoint is one pod behind a Service. Ready, Serving and Terminating are the
// conditions of discovery.k8s.io/v1, with that API's defaults for nil.
type Endpoint struct {
	Pod PodRef
	// Hostname is the pod's label in the Service's DNS name, if any.
	Hostname string
	// Address is the pod's IP address, the IPv4 one if it has both; the zero Addr if
	// it isn't known.
	Address     netip.Addr
	Ready       bool
	Serving     bool
	Terminating bool
	// Ports maps the names of Service ports to port numbers in the pod. A port
	// whose target port doesn't resolve for the pod is missing. Endpoints may share
	// the map.
	Ports map[string]uint16
}
