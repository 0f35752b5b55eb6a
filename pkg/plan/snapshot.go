package plan

import "time"

// Snapshot is the state of the watched Services and their endpoints at one
// moment. Nobody changes a snapshot once it was handed out.
type Snapshot struct {
	Clusters []Cluster
	// Services are in any order, each once.
	Services []Service
	// Ingresses are in any order.
	Ingresses []Ingress
}

// Cluster is one context of the kubeconfig.
type Cluster struct {
	Context string
	Alias   string // what it is called in names; empty if it is the first
	Server  string // its API server's address, without secrets; empty if it isn't known
	// Read are the namespaces that were read, or of which Problems says why they can't be;
	// the empty name stands for all. It is nothing to a plan.
	Read []string
	// Problems says what can't be read of it, and why, a line each.
	Problems []string
}

// Ingress is what an Ingress says of names.
type Ingress struct {
	ID    ServiceID // the Ingress's own
	Hosts []string  // that it routes; may have a wildcard for a first label
	// Controllers are the Services that it is reached through, by its
	// load-balancer status.
	Controllers []ServiceID
}

// Service is one Service with the endpoints that its EndpointSlices list.
type Service struct {
	ID ServiceID
	// Headless is set if the Service has no cluster IP: clients reach its pods
	// directly.
	Headless bool
	// ExternalName is the DNS name that a Service of that type stands for.
	ExternalName string
	// Outside is the address of an endpoint if there are some and none is a pod;
	// else empty.
	Outside string
	// Affinity is how long after a client's last connection its next one goes
	// to the same pod (sessionAffinity: ClientIP); 0 if the Service has none.
	Affinity time.Duration
	Ports    []ServicePort
	// Endpoints are the pods behind the Service, each once, sorted by the
	// pod's name.
	Endpoints []Endpoint
}

// ServicePort is one port of a Service's spec.
type ServicePort struct {
	Name     string // empty if the Service has only this port
	Protocol string // TCP, UDP or SCTP
	Number   uint16 // where clients of the Service connect
	Target   string // the name of the pods' port; empty if it is a number
}

// Endpoint is one pod behind a Service. Its conditions are those of
// discovery.k8s.io/v1, with nil already read as that API says.
type Endpoint struct {
	Pod PodRef
	// Hostname is the pod's label in the Service's DNS name; empty if it has none.
	Hostname    string
	Ready       bool
	Serving     bool
	Terminating bool
	// Ports are the port numbers in the pod, by the name of the service port.
	// A pod lacks those that its target port name doesn't resolve for.
	Ports map[string]uint16
}
