package plan

import (
	"net/netip"
	"time"
)

// Desired is the desired state of this machine.
type Desired struct {
	Hosts []Host // sorted by ID
	// Clusters are the snapshot's, with problems that the plan found added.
	Clusters []Cluster
	// Notes are lines about names for the log. They change only if the set of
	// top-level domains in the names does.
	Notes []string
}

// Host is a Service, or one pod of a Service, that can get an address on
// this machine.
type Host struct {
	ID      HostID
	Address netip.Addr // fixed address; the zero Addr for an automatic one
	Names   []string   // the fully qualified name first
	// LostNames are names that the host claims and another one has.
	LostNames []string
	Ports     []Port // sorted by number
	// Local is set if the Service runs on this machine: its names resolve to
	// 127.0.0.1.
	Local bool
	// Implicit is set for a pod of a Service with a cluster IP, unless the user asked
	// for its pods: programs may use its names, and nobody waits for it.
	Implicit bool
	// AliasOf is the host that an ExternalName Service refers to, and which has
	// its names; zero for other hosts.
	AliasOf HostID
	// AffinityTimeout is how long after the last connection to a port the next
	// one goes to the same pod; 0 chooses a pod for each connection. All clients
	// are on this machine and count as one.
	AffinityTimeout time.Duration
	// Ready and Pods count the pods behind the host.
	Ready, Pods int
	// Denied is that of the Service.
	Denied string
	// Problems lists errors of the host, one line each.
	Problems []string
	// Limits lists parts of the host that can't be forwarded by design, such as UDP
	// ports. There is nothing for the user to fix.
	Limits []string
}

// Addressable reports whether the host gets an address.
func (h *Host) Addressable() bool { return h.Local || len(h.Ports) > 0 }

// Port is one TCP port of a host.
type Port struct {
	Number  uint16
	Targets []Target
}

// Target is where connections to a port may go: one port of one pod.
type Target struct {
	Pod  PodRef
	Port uint16
	// Ready targets get new connections. If a port has none, targets that are
	// Serving and Terminating do, as with kube-proxy (KEP-1669).
	Ready       bool
	Serving     bool
	Terminating bool
}
