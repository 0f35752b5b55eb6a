package fwd

import (
	"errors"
	"time"
)

// Meter receives measurements of connections. Many goroutines call its methods
// concurrently, and for each connection, so they must not block.
type Meter interface {
	// Dialed reports the duration and result of a dial. Dials that were canceled
	// because the client disconnected are not reported.
	Dialed(took time.Duration, err error)
	// FirstByte reports how long after a connection was accepted the pod's first
	// byte arrived.
	FirstByte(took time.Duration)
	// Retried reports a retry of a failed attempt.
	Retried()
	// Held reports how long a connection waited for a pod.
	Held(took time.Duration)
	// Failed reports a connection that was reset.
	Failed(kind FailureKind)
}

// FailureKind is the kind of error that a connection was reset for.
type FailureKind string

// The kinds of failures.
const (
	FailureNoPod              FailureKind = "no_pod"       // no pod became ready within HoldTimeout
	FailurePodGone            FailureKind = "pod_gone"     // see PodGone
	FailurePortClosed         FailureKind = "port_closed"  // see PortClosed
	FailureNodeUnreachable    FailureKind = "node_away"    // see NodeUnreachable
	FailureClusterUnreachable FailureKind = "cluster_away" // see ClusterUnreachable
	FailureDenied             FailureKind = "denied"       // see Denied
	FailureBrokenOff          FailureKind = "broken_off"   // it broke after it may have reached a process
	FailureServiceGone        FailureKind = "service_gone" // its service was removed
	FailureOther              FailureKind = "other"
)

// FailureKinds returns all kinds.
func FailureKinds() []FailureKind {
	return []FailureKind{
		FailureNoPod, FailurePodGone, FailurePortClosed, FailureNodeUnreachable, FailureClusterUnreachable,
		FailureDenied, FailureBrokenOff, FailureServiceGone, FailureOther,
	}
}

// failureKind returns the kind of a failure. reachedPod means that a process may
// have received bytes of the connection.
func failureKind(reachedPod bool, err error) FailureKind {
	var unreached *UnreachedError
	switch {
	case reachedPod:
		return FailureBrokenOff
	case errors.Is(err, errNoPod):
		return FailureNoPod
	case errors.Is(err, errServiceGone):
		return FailureServiceGone
	case errors.As(err, &unreached):
		switch unreached.Reason {
		case PodGone:
			return FailurePodGone
		case PortClosed:
			return FailurePortClosed
		case NodeUnreachable:
			return FailureNodeUnreachable
		case ClusterUnreachable:
			return FailureClusterUnreachable
		case Denied:
			return FailureDenied
		}
	}
	return FailureOther
}

// noMeter discards all measurements.
type noMeter struct{}

func (noMeter) Dialed(time.Duration, error) {}
func (noMeter) FirstByte(time.Duration)     {}
func (noMeter) Retried()                    {}
func (noMeter) Held(time.Duration)          {}
func (noMeter) Failed(FailureKind)          {}
