package controlserver

import (
	"slices"

	"github.com/kubeshore/kubeshore/pkg/control"
	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// stateOf returns the state of a host that isn't an alias: ready if connections to each
// port reach a pod and its names lead to it, degraded if some do, failed if none does.
// The API, ps, wait, the status line and the metrics all use it.
func stateOf(h fwd.HostStatus, unnamed bool) control.State {
	if !h.Local && len(h.Ports)+len(h.Problems) == 0 && len(h.Limits) > 0 {
		return control.Skipped
	}
	state := stateOfPorts(h)
	named, lost := namesInForce(h)
	switch {
	case !state.Works():
		return state
	case unnamed:
		return control.Degraded
	case !named && lost:
		return control.Failed
	case lost || len(h.Problems) > 0:
		return control.Degraded
	}
	return state
}

// stateOfPorts returns the state that a host would have without problems of its names.
func stateOfPorts(h fwd.HostStatus) control.State {
	reachable, waiting := 0, 0
	for _, p := range h.Ports {
		switch {
		case p.Err != nil:
		case p.Reach == fwd.Reachable:
			reachable++
		case p.Reach == fwd.NotReady:
			waiting++
		}
	}
	switch {
	case h.Local, reachable > 0 && reachable == len(h.Ports):
		return control.Ready
	case reachable > 0:
		return control.Degraded
	case waiting > 0:
		return control.Waiting
	}
	return control.Failed
}

// namesInForce reports whether one of the names that programs use leads to a host, and
// whether one of them leads elsewhere. Those are the short names, if it has any.
func namesInForce(h fwd.HostStatus) (named, lost bool) {
	short := slices.ContainsFunc(h.Names, plan.IsShort)
	lostShort := slices.ContainsFunc(h.LostNames, plan.IsShort)
	if short || lostShort {
		return short, lostShort
	}
	return len(h.Names) > 0, len(h.LostNames) > 0
}
