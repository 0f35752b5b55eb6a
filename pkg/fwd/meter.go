package fwd

import (
	"errors"
	"time"
)

// Meter is told what comes of connections. Its methods are called by many goroutines at
// once, for each connection, and must not wait.
type Meter interface {
	// Dialed: a stream to a pod was had, or not, after that long. A dial that is called off,
	// as its client has gone, isn't told of.
	Dialed(took time.Duration, err error)
	// Answered: a pod's first byte was there that long after the connection was accepted.
	Answered(took time.Duration)
	// Retried: there is another try, as the one before has failed.
	Retried()
	// Held: the connection has waited that long for a pod that can take it.
	Held(took time.Duration)
	// Failed: the connection was reset.
	Failed(kind Fault)
}

// Fault is a kind of reason for which a connection was reset.
type Fault string

// The kinds of faults.
const (
	FaultNoPod       Fault = "no_pod"       // none was ready, nor became so in time
	FaultPodGone     Fault = "pod_gone"     // see PodGone
	FaultPortClosed  Fault = "port_closed"  // see PortClosed
	FaultClusterAway Fault = "cluster_away" // see ClusterAway
	FaultDenied      Fault = "denied"       // see Denied
	FaultBrokenOff   Fault = "broken_off"   // a process had seen it
	FaultServiceGone Fault = "service_gone"
	FaultOther       Fault = "other"
)

// Faults returns all kinds.
func Faults() []Fault {
	return []Fault{FaultNoPod, FaultPodGone, FaultPortClosed, FaultClusterAway, FaultDenied, FaultBrokenOff, FaultServiceGone, FaultOther}
}

// faultOf returns the kind of an error that a connection was reset for.
func faultOf(met bool, err error) Fault {
	var unreached *UnreachedError
	switch {
	case met:
		return FaultBrokenOff
	case errors.Is(err, errNoPod):
		return FaultNoPod
	case errors.Is(err, errServiceGone):
		return FaultServiceGone
	case errors.As(err, &unreached):
		switch unreached.Why {
		case PodGone:
			return FaultPodGone
		case PortClosed:
			return FaultPortClosed
		case ClusterAway:
			return FaultClusterAway
		case Denied:
			return FaultDenied
		}
	}
	return FaultOther
}

// noMeter tells nobody.
type noMeter struct{}

func (noMeter) Dialed(time.Duration, error) {}
func (noMeter) Answered(time.Duration)      {}
func (noMeter) Retried()                    {}
func (noMeter) Held(time.Duration)          {}
func (noMeter) Failed(Fault)                {}

func (e *Engine) meter() Meter {
	if e.Meter == nil {
		return noMeter{}
	}
	return e.Meter
}
