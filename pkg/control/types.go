// Package control is the API of a running kubeshore: HTTP with JSON on a unix socket
// that is the user's alone. The command line uses the [Client] that is here, and other
// programs may: the types are a public contract. Within a version of the API (the v1 of
// the paths) fields are added, and none is taken away or changes its meaning; a field of
// a request that a kubeshore doesn't know is nothing to it.
package control

import "time"

const (
	// VersionHeader is the header of each response with the version of the kubeshore that
	// serves the API.
	VersionHeader = "Kubeshore-Version"
	// EndTrailer is the trailer of a stream of events or of the log. It is missing if the
	// stream was broken off.
	EndTrailer = "Kubeshore-End"
	// EndOrderly is the trailer's value if the stream is complete.
	EndOrderly = "orderly"
	// EndBehind is the trailer's value if the reader was too slow and missed something.
	EndBehind = "behind"
)

// Status is what stands.
type Status struct {
	Overview
	// Services has the services and pods that have an address of their own, in the order
	// of context, namespace and name.
	Services []Service `json:"services"`
}

// Overview is what stands but for the services.
type Overview struct {
	// Version is the kubeshore's that runs.
	Version string `json:"version"`
	// PID is its process's ID.
	PID int `json:"pid"`
	// Started is when it was started.
	Started time.Time `json:"started"`
	// Synced tells whether what there was at the start stands: names, addresses and ports.
	// Whether services can answer is another matter: see Readiness.
	Synced bool `json:"synced"`
	// Stopping tells whether it was told to end.
	Stopping bool `json:"stopping"`
	// Kubeconfig has the files that the contexts are from.
	Kubeconfig []string `json:"kubeconfig"`
	// ProjectFile is the kubeshore.yaml in force; empty if there is none.
	ProjectFile string `json:"projectFile,omitempty"`
	// HostsFile is the file that the names are in.
	HostsFile string `json:"hostsFile"`
	// HostsWrites counts how often it was written.
	HostsWrites uint64 `json:"hostsWrites"`
	// LogFile is the file that the log is written to; empty if it is a terminal's.
	LogFile string `json:"logFile,omitempty"`
	// Listening says how ports are taken, in words.
	Listening string `json:"listening"`
	// UpstreamConnections counts the connections to API servers that carry streams.
	UpstreamConnections int `json:"upstreamConnections"`
	// Problems says what is wrong with what was said, a line each: a project's file that has
	// become faulty.
	Problems []string `json:"problems,omitempty"`
	// Contexts are those that are followed. The first one's services have the names that
	// they have in their cluster.
	Contexts []Context `json:"contexts"`
}

// AllNamespaces stands for all namespaces of a context among those that are read.
const AllNamespaces = "*"

// Context is a context of the kubeconfig that is followed.
type Context struct {
	// Name is what the kubeconfig calls it.
	Name string `json:"name"`
	// Alias is what it is called in names; empty if it is the first.
	Alias string `json:"alias,omitempty"`
	// Server is its API server's address; empty if that isn't known.
	Server string `json:"server,omitempty"`
	// Namespaces are those that are followed; empty if all are.
	Namespaces []string `json:"namespaces"`
	// Reading are those of them that weren't read yet, as they are followed since a moment
	// ago: not all of their services are known. It has * if all are followed.
	Reading []string `json:"reading,omitempty"`
	// Problems says what can't be read of it, and why, a line each.
	Problems []string `json:"problems,omitempty"`
}

// State says whether a service can answer.
type State string

// The states.
const (
	// Ready: it can answer.
	Ready State = "ready"
	// Degraded: it can answer, and something of it doesn't work. Its problems say what.
	Degraded State = "degraded"
	// Waiting: no pod is ready. Connections wait for one.
	Waiting State = "waiting"
	// Failed: nothing answers at its address, or no connection gets to a pod, as those have
	// found that were made last. Its problems say why.
	Failed State = "failed"
	// Skipped: there is nothing of it that port-forward can carry. Its limits say why.
	Skipped State = "skipped"
)

// States returns all states.
func States() []State { return []State{Ready, Degraded, Waiting, Failed, Skipped} }

// Works tells whether a service in this state can answer.
func (s State) Works() bool { return s == Ready || s == Degraded }

// ServiceID tells a service from all others: its fields but for the name do so together.
type ServiceID struct {
	// Name is what a user calls it.
	Name string `json:"name"`
	// Context is the one that it is of.
	Context string `json:"context"`
	// Namespace is its namespace.
	Namespace string `json:"namespace"`
	// Service is the Service's own name.
	Service string `json:"service"`
	// Pod is the pod's host name; empty for the Service itself.
	Pod string `json:"pod,omitempty"`
}

// Service is a Service of a cluster, or one pod of a headless Service. Its context,
// namespace, service and pod tell it from all others.
type Service struct {
	// Name is what a user calls it: web.shop, db-0.db.data, or, of a further context,
	// web.shop.eu. Another may be called so too: the pod web of the headless Service shop in
	// a namespace eu. Who of them has the name on this machine is told by names.
	Name string `json:"name"`
	// Context is the one that it is of.
	Context string `json:"context"`
	// Namespace is its namespace.
	Namespace string `json:"namespace"`
	// Service is the Service's own name.
	Service string `json:"service"`
	// Pod is the pod's host name; empty for the Service itself.
	Pod string `json:"pod,omitempty"`
	// State says whether it can answer.
	State State `json:"state"`
	// Reason says in words why it isn't ready, and what of it isn't forwarded; empty if
	// it is, whole.
	Reason string `json:"reason,omitempty"`
	// Address is where it is on this machine; empty if nothing can be forwarded.
	Address string `json:"address,omitempty"`
	// Names are those that lead there, the fully qualified one first.
	Names []string `json:"names"`
	// Ports are those that it answers on.
	Ports []Port `json:"ports"`
	// Local tells whether it runs on this machine, and isn't forwarded.
	Local bool `json:"local,omitempty"`
	// AliasOf is the name of the service that it is another name of; empty if of none.
	AliasOf string `json:"aliasOf,omitempty"`
	// ReadyPods counts the pods behind it that are ready.
	ReadyPods int `json:"readyPods"`
	// Pods counts the pods behind it.
	Pods int `json:"pods"`
	// Connections counts those that are open.
	Connections int `json:"connections"`
	// TotalConnections counts those that were ever made.
	TotalConnections uint64 `json:"totalConnections"`
	// BytesUp counts what clients have said.
	BytesUp uint64 `json:"bytesUp"`
	// BytesDown counts what pods have said.
	BytesDown uint64 `json:"bytesDown"`
	// Problems says what doesn't work, and why, a line each.
	Problems []string `json:"problems,omitempty"`
	// Limits says what of it can't be forwarded by what it is, and why, a line each: a port
	// that is UDP, a name that stands for a host outside.
	Limits []string `json:"limits,omitempty"`
}

// Port is a port of a service.
type Port struct {
	// Port is its number on this machine.
	Port uint16 `json:"port"`
	// Problem is why nothing is accepted there; empty if connections are.
	Problem string `json:"problem,omitempty"`
}

// Event is a change. One of its fields is set, and More beside it.
type Event struct {
	// Status is all that stands. It is the first event, and none later.
	Status *Status `json:"status,omitempty"`
	// Overview is what stands but for the services, as it is now that it has changed.
	Overview *Overview `json:"overview,omitempty"`
	// Service is one that has come or changed, as it is now.
	Service *Service `json:"service,omitempty"`
	// Gone is a service that has gone.
	Gone *ServiceID `json:"gone,omitempty"`
	// More tells that another event follows at once that belongs to the same moment: what
	// was heard is what stands only with that.
	More bool `json:"more,omitempty"`
}

// Readiness says whether services can answer.
type Readiness struct {
	// Ready tells whether all of them can.
	Ready bool `json:"ready"`
	// Waiting has those that can't.
	Waiting []Service `json:"waiting,omitempty"`
	// Unknown has the names that were asked for and that no service has.
	Unknown []string `json:"unknown,omitempty"`
	// Problems has what else there is, a line each: what of clusters can't be read, or isn't
	// read yet, and that kubeshore is ending.
	Problems []string `json:"problems,omitempty"`
}

// NamespaceChange says which namespaces of a context are meant.
type NamespaceChange struct {
	// Context is the context; empty for the first one.
	Context string `json:"context,omitempty"`
	// Namespaces are their names, one at least.
	Namespaces []string `json:"namespaces"`
}

// ErrorResponse is the body of every answer that is none of the above.
type ErrorResponse struct {
	// Error says what is wrong, and what to do about it.
	Error string `json:"error"`
	// UnknownEndpoint is true if the API of this version has no such path.
	UnknownEndpoint bool `json:"unknownEndpoint,omitempty"`
}
