// Package control is the API of a running kubeshore: HTTP with JSON on a unix socket that
// only its user can access. The command line uses the [Client] of this package, and so can
// other programs. The types are a public contract: within a version of the API (the v1 in
// the paths), fields may be added, but none is removed or changes its meaning. The server
// ignores unknown fields of requests.
package control

import "time"

const (
	// VersionHeader is the header of each response with the version of the running kubeshore.
	VersionHeader = "Kubeshore-Version"
	// EndTrailer is the trailer of a stream of events or of the log. It is missing if the
	// stream was interrupted.
	EndTrailer = "Kubeshore-End"
	// EndOrderly is the trailer's value if the stream is complete.
	EndOrderly = "orderly"
	// EndBehind is the trailer's value if the reader was too slow and missed something.
	EndBehind = "behind"
)

// Status is the complete state of a running kubeshore.
type Status struct {
	Overview
	// Services are the forwarded services, and the pods that have their own address, sorted
	// by context, namespace and name.
	Services []Service `json:"services"`
}

// Overview is the Status without the services.
type Overview struct {
	// Version is the version of the running kubeshore.
	Version string `json:"version"`
	// PID is the process ID of the running kubeshore.
	PID int `json:"pid"`
	// Started is the start time of the running kubeshore.
	Started time.Time `json:"started"`
	// Synced is true once the initial set of names, addresses and ports is in place. It
	// doesn't mean that the services are ready: see Readiness.
	Synced bool `json:"synced"`
	// Stopping is true while kubeshore shuts down.
	Stopping bool `json:"stopping"`
	// Kubeconfig lists the kubeconfig files that the contexts come from.
	Kubeconfig []string `json:"kubeconfig"`
	// ProjectFile is the path of the kubeshore.yaml in use; empty if there is none.
	ProjectFile string `json:"projectFile,omitempty"`
	// HostsFile is the path of the hosts file with the services' names.
	HostsFile string `json:"hostsFile"`
	// HostsWrites is the number of times that kubeshore wrote the hosts file.
	HostsWrites uint64 `json:"hostsWrites"`
	// LogFile is the path of the log file; empty if the log goes to a terminal.
	LogFile string `json:"logFile,omitempty"`
	// Listening describes how kubeshore listens on ports.
	Listening string `json:"listening"`
	// For is "me" if only connections of the user of kubeshore and of root are accepted,
	// "everyone" if those of all users are.
	For string `json:"for"`
	// RefusedConnections is the number of connections that were reset because of their
	// user, or because they came from another machine.
	RefusedConnections uint64 `json:"refusedConnections"`
	// UpstreamConnections is the number of open connections to API servers that carry
	// port-forward streams.
	UpstreamConnections int `json:"upstreamConnections"`
	// Problems lists problems that concern no context, e.g. a project file that has become
	// invalid, or names that can't be written to the hosts file.
	Problems []string `json:"problems,omitempty"`
	// Contexts lists the followed contexts. Services of the first one have the same names
	// here as in their cluster.
	Contexts []Context `json:"contexts"`
}

// AllNamespaces stands for all namespaces of a context in [Context.Reading].
const AllNamespaces = "*"

// Context is a followed context of the kubeconfig.
type Context struct {
	// Name is the context's name in the kubeconfig.
	Name string `json:"name"`
	// Alias is the context's suffix in the names of services; empty for the first context.
	Alias string `json:"alias,omitempty"`
	// Server is the address of the API server; empty if it isn't known.
	Server string `json:"server,omitempty"`
	// Namespaces lists the followed namespaces; empty if all are followed.
	Namespaces []string `json:"namespaces"`
	// Reading lists the namespaces that are still syncing: some of their services may
	// be missing. It contains "*" if all namespaces are followed.
	Reading []string `json:"reading,omitempty"`
	// Problems lists failures to read from the cluster, e.g. missing permissions.
	Problems []string `json:"problems,omitempty"`
	// Notes lists missing permissions for which there is a replacement that works.
	Notes []string `json:"notes,omitempty"`
}

// State is the condition of a service.
type State string

// The states of a service.
const (
	// Ready means that connections to each port reach a pod, and that its short names resolve
	// to the service.
	Ready State = "ready"
	// Degraded means that only some of its ports reach a pod, or only some of its names resolve
	// to the service. Its problems give the details.
	Degraded State = "degraded"
	// Waiting means that no pod is ready. Connections wait for one.
	Waiting State = "waiting"
	// Failed means that no port reaches a pod, or that none of its short names resolves to the
	// service. Its problems give the details.
	Failed State = "failed"
	// Skipped means that port-forward can't carry any of the service's ports. Its limits give
	// the details.
	Skipped State = "skipped"
)

// States returns all states.
func States() []State { return []State{Ready, Degraded, Waiting, Failed, Skipped} }

// ServiceID identifies a service by context, namespace, service and pod. The name isn't
// part of its identity.
type ServiceID struct {
	// Name is the short form of the service's name.
	Name string `json:"name"`
	// Context is the kubeconfig context of the service's cluster.
	Context string `json:"context"`
	// Namespace is the service's namespace.
	Namespace string `json:"namespace"`
	// Service is the name of the Service in its namespace.
	Service string `json:"service"`
	// Pod is the pod's hostname; empty for the Service itself.
	Pod string `json:"pod,omitempty"`
}

// Service is a Service of a cluster, or a pod of a headless Service. Its context,
// namespace, service and pod identify it.
type Service struct {
	// Name is the short form of the service's name: web.shop, db-0.db.data or, outside the
	// first context, web.shop.eu. It ends in svc if the namespace is a number: web.1234.svc. It isn't unique: the pod web of the headless Service shop
	// in a namespace eu has the same name as the Service web.shop of a context with the alias
	// eu. Names shows which of them the name resolves to.
	Name string `json:"name"`
	// Context is the kubeconfig context of the service's cluster.
	Context string `json:"context"`
	// Namespace is the service's namespace.
	Namespace string `json:"namespace"`
	// Service is the name of the Service in its namespace.
	Service string `json:"service"`
	// Pod is the pod's hostname; empty for the Service itself.
	Pod string `json:"pod,omitempty"`
	// State is the condition of the service.
	State State `json:"state"`
	// Reason explains why the service isn't ready, or which part of it isn't forwarded; empty
	// if all of it is forwarded and ready.
	Reason string `json:"reason,omitempty"`
	// Address is the service's IP address on this machine; empty if nothing can be forwarded.
	Address string `json:"address,omitempty"`
	// Names lists the hostnames that resolve to Address, the fully qualified one first.
	Names []string `json:"names"`
	// Ports lists the service's ports on this machine.
	Ports []Port `json:"ports"`
	// Denied is true if the cluster denied the most recent connection, e.g. by a policy.
	// The state is then failed, and waiting doesn't help.
	Denied bool `json:"denied,omitempty"`
	// Local is true if the service runs on this machine and isn't forwarded.
	Local bool `json:"local,omitempty"`
	// AliasOf is the name of the service that this one is an alias of; empty if it is not an
	// alias.
	AliasOf string `json:"aliasOf,omitempty"`
	// ReadyPods is the number of ready pods.
	ReadyPods int `json:"readyPods"`
	// Pods is the number of pods, whether ready or not.
	Pods int `json:"pods"`
	// Connections is the number of open connections.
	Connections int `json:"connections"`
	// TotalConnections is the number of connections so far.
	TotalConnections uint64 `json:"totalConnections"`
	// BytesUp is the number of bytes sent by clients.
	BytesUp uint64 `json:"bytesUp"`
	// BytesDown is the number of bytes sent by pods.
	BytesDown uint64 `json:"bytesDown"`
	// Problems lists the current problems of the service.
	Problems []string `json:"problems,omitempty"`
	// Limits lists the parts of the service that port-forward can't carry, e.g. a UDP port or
	// an ExternalName outside the cluster.
	Limits []string `json:"limits,omitempty"`
}

// Port is a port of a service.
type Port struct {
	// Port is the port number on this machine.
	Port uint16 `json:"port"`
	// Ready is true if the port accepts connections, and they reach a pod.
	Ready bool `json:"ready"`
	// Problem explains why the port accepts no connections; empty if it does.
	Problem string `json:"problem,omitempty"`
}

// Event is a change of the Status. Exactly one of its fields is set, apart from More.
type Event struct {
	// Status is the complete status. It is the first event of a stream, and only that.
	Status *Status `json:"status,omitempty"`
	// Overview is the new overview after a change of anything but the services.
	Overview *Overview `json:"overview,omitempty"`
	// Service is an added or changed service.
	Service *Service `json:"service,omitempty"`
	// Gone identifies a removed service.
	Gone *ServiceID `json:"gone,omitempty"`
	// More is true if more events of the same change follow. The state is consistent after
	// the last of them.
	More bool `json:"more,omitempty"`
}

// Readiness reports whether services are ready.
type Readiness struct {
	// Ready is true if all requested services are ready.
	Ready bool `json:"ready"`
	// Waiting lists the services that aren't ready.
	Waiting []Service `json:"waiting,omitempty"`
	// Degraded lists the services that are degraded. They count as ready.
	Degraded []Service `json:"degraded,omitempty"`
	// Unknown lists the requested names that match no service.
	Unknown []string `json:"unknown,omitempty"`
	// Problems lists other reasons for not being ready, e.g. a namespace that can't be read or
	// is still syncing, a requested name that doesn't resolve, or the shutdown of kubeshore.
	Problems []string `json:"problems,omitempty"`
}

// NamespaceChange is a request to follow namespaces of a context, or to stop following
// them.
type NamespaceChange struct {
	// Context is the name of the context; empty for the first one.
	Context string `json:"context,omitempty"`
	// Namespaces lists the namespaces, at least one.
	Namespaces []string `json:"namespaces"`
}

// Login is a request to use a credential that the context's credential plugin returned
// to another process.
type Login struct {
	// Context is the name of the context.
	Context string `json:"context"`
	// Server is the address of the API server that the credential is for. It must be the
	// one of the running kubeshore's context.
	Server string `json:"server"`
	// Token is a bearer token; empty if there is none.
	Token string `json:"token,omitempty"`
	// ClientCertificateData is a client certificate in PEM form; empty if there is none.
	ClientCertificateData string `json:"clientCertificateData,omitempty"`
	// ClientKeyData is the certificate's key in PEM form.
	ClientKeyData string `json:"clientKeyData,omitempty"`
	// Expires is when the credential expires; missing if that isn't known.
	Expires *time.Time `json:"expires,omitempty"`
}

// String returns a description without the credential.
func (l Login) String() string { return "login to context " + l.Context }

// GoString returns String.
func (l Login) GoString() string { return l.String() }

// ErrorResponse is the body of a response to a failed request.
type ErrorResponse struct {
	// Error is the error message.
	Error string `json:"error"`
	// UnknownEndpoint is true if this version of the API has no such path.
	UnknownEndpoint bool `json:"unknownEndpoint,omitempty"`
}
