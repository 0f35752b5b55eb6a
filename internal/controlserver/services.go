package controlserver

import (
	"cmp"
	"slices"
	"strings"

	"github.com/kubeshore/kubeshore/pkg/control"
	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// Services converts the hosts of a status, with their traffic, to services of the
// API. Implicit hosts are not listed, but their traffic is that of their Services.
func Services(status fwd.Status, traffic map[plan.HostID]fwd.Traffic) []control.Service {
	services := make([]control.Service, 0, len(status.Hosts))
	states := make(map[plan.HostID]control.State, len(status.Hosts))
	denied := make(map[plan.HostID]bool)
	for _, h := range status.Hosts {
		if h.AliasOf == (plan.HostID{}) {
			states[h.ID], denied[h.ID] = stateOf(h, status.Unnamed), h.Denied
		}
	}
	implicit := implicitTraffic(status.Hosts, traffic)
	for _, h := range status.Hosts {
		if h.Implicit {
			continue
		}
		t := traffic[h.ID]
		if more, ok := implicit[h.ID]; ok {
			t = sum(t, more)
		}
		s := control.Service{
			Name: h.ID.DisplayName(status.Clusters), Context: h.ID.Service.Context, Namespace: h.ID.Service.Namespace, Service: h.ID.Service.Name, Pod: h.ID.Pod,
			Names: slices.Clip(h.Names), Ports: make([]control.Port, 0, len(h.Ports)), Local: h.Local, ReadyPods: h.Ready, Pods: h.Pods,
			Connections: t.Open, TotalConnections: t.Total, BytesUp: t.BytesUp, BytesDown: t.BytesDown,
			State: states[h.ID], Denied: h.Denied, Problems: h.Problems, Limits: h.Limits,
		}
		if s.Names == nil {
			s.Names = []string{}
		}
		if h.Address.IsValid() {
			s.Address = h.Address.String()
		}
		if h.AliasOf != (plan.HostID{}) {
			s.AliasOf = h.AliasOf.DisplayName(status.Clusters)
			s.State, s.Denied = cmp.Or(states[h.AliasOf], control.Failed), denied[h.AliasOf]
			if s.State.Works() && len(h.Problems) > 0 {
				s.State = control.Degraded
			}
		}
		for _, p := range h.Ports {
			port := control.Port{Port: p.Number, Ready: p.Err == nil && p.Reach == fwd.Reachable}
			if p.Err != nil {
				port.Problem = p.Err.Error()
			}
			s.Ports = append(s.Ports, port)
		}
		s.Reason = reasonFor(s, status.Unnamed)
		services = append(services, s)
	}
	return services
}

// implicitTraffic returns the traffic of the implicit hosts of each Service.
func implicitTraffic(hosts []fwd.HostStatus, traffic map[plan.HostID]fwd.Traffic) map[plan.HostID]fwd.Traffic {
	all := make(map[plan.HostID]fwd.Traffic)
	for _, h := range hosts {
		if h.Implicit {
			service := plan.HostID{Service: h.ID.Service}
			all[service] = sum(all[service], traffic[h.ID])
		}
	}
	return all
}

func sum(a, b fwd.Traffic) fwd.Traffic {
	return fwd.Traffic{Open: a.Open + b.Open, Total: a.Total + b.Total, BytesUp: a.BytesUp + b.BytesUp, BytesDown: a.BytesDown + b.BytesDown}
}

// reasonFor returns why a service isn't ready, and which part of it isn't forwarded.
func reasonFor(s control.Service, unnamed bool) string {
	var reasons []string
	switch {
	case s.AliasOf != "" && !s.State.Works():
		reasons = append(reasons, "alias of "+s.AliasOf+", which is "+string(s.State))
	case s.State == control.Waiting && s.Pods == 0:
		reasons = append(reasons, "no pods")
	case s.State == control.Waiting && s.Pod != "":
		reasons = append(reasons, "the pod is not ready")
	case s.State == control.Waiting:
		reasons = append(reasons, "no pod is ready")
	case s.State == control.Failed && len(s.Problems)+len(s.Limits) == 0:
		reasons = append(reasons, "no port can be forwarded")
	case s.State.Works() && unnamed:
		reasons = append(reasons, "reachable by address only: no names are written")
	}
	return strings.Join(slices.Concat(reasons, s.Problems, s.Limits), "; ")
}
