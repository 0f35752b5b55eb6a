package control

import (
	"cmp"
	"slices"
	"strings"

	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// Services returns what the API says of the hosts of a status, with their traffic.
func Services(status fwd.Status, traffic map[plan.HostID]fwd.Traffic) []Service {
	services := make([]Service, 0, len(status.Hosts))
	states := make(map[plan.HostID]State, len(status.Hosts))
	for _, h := range status.Hosts {
		if h.AliasOf == (plan.HostID{}) {
			states[h.ID] = stateOf(h)
		}
	}
	for _, h := range status.Hosts {
		t := traffic[h.ID]
		s := Service{
			Name: h.ID.In(status.Clusters), Context: h.ID.Service.Context, Namespace: h.ID.Service.Namespace, Service: h.ID.Service.Name, Pod: h.ID.Pod,
			Names: slices.Clip(h.Names), Ports: make([]Port, 0, len(h.Ports)), Local: h.Local, ReadyPods: h.Ready, Pods: h.Pods,
			Connections: t.Open, TotalConnections: t.Total, BytesUp: t.Up, BytesDown: t.Down,
			State: states[h.ID], Problems: h.Problems, Limits: h.Limits,
		}
		if s.Names == nil {
			s.Names = []string{}
		}
		if h.Address.IsValid() {
			s.Address = h.Address.String()
		}
		if h.AliasOf != (plan.HostID{}) {
			s.AliasOf = h.AliasOf.In(status.Clusters)
			s.State = cmp.Or(states[h.AliasOf], Failed)
			if s.State.Works() && len(h.Problems) > 0 {
				s.State = Degraded
			}
		}
		for _, p := range h.Ports {
			port := Port{Port: p.Number}
			if p.Err != nil {
				port.Problem = p.Err.Error()
			}
			s.Ports = append(s.Ports, port)
		}
		s.Reason = s.reason()
		services = append(services, s)
	}
	return services
}

// stateOf returns the state of a host that is no other's name.
func stateOf(h fwd.HostStatus) State {
	accepts := slices.ContainsFunc(h.Ports, func(p fwd.PortStatus) bool { return p.Err == nil })
	switch {
	case !h.Local && len(h.Ports)+len(h.Problems) == 0 && len(h.Limits) > 0:
		return Skipped
	case !h.Local && (!accepts || h.Barred):
		return Failed
	case !h.Local && h.Ready == 0:
		return Waiting
	case len(h.Problems) > 0:
		return Degraded
	}
	return Ready
}

// reason says why a service isn't ready, and what of it isn't forwarded.
func (s Service) reason() string {
	var why []string
	switch {
	case s.AliasOf != "" && !s.State.Works():
		why = append(why, "another name of "+s.AliasOf+", which is "+string(s.State))
	case s.State == Waiting && s.Pods == 0:
		why = append(why, "it has no pods")
	case s.State == Waiting && s.Pod != "":
		why = append(why, "the pod is not ready")
	case s.State == Waiting:
		why = append(why, "no pod is ready")
	case s.State == Failed && len(s.Problems)+len(s.Limits) == 0:
		why = append(why, "it has no port that can be forwarded")
	}
	return strings.Join(slices.Concat(why, s.Problems, s.Limits), "; ")
}

// ID returns what tells the service from others.
func (s Service) ID() ServiceID {
	return ServiceID{Name: s.Name, Context: s.Context, Namespace: s.Namespace, Service: s.Service, Pod: s.Pod}
}

func (s Service) key() ServiceID { return s.ID().key() }

// key returns what tells the service from others, whatever it is called now.
func (id ServiceID) key() ServiceID {
	id.Name = ""
	return id
}

// Find returns the service that a user means by a name: by one that leads to it on this
// machine, by its own, or by that of the Service, if no other has it.
func Find(services []Service, name string) (Service, bool) {
	host := strings.ToLower(strings.TrimSuffix(name, "."))
	for _, is := range []func(Service) bool{
		func(s Service) bool { return slices.Contains(s.Names, host) },
		func(s Service) bool { return s.Name == host },
		func(s Service) bool { return s.Service == name && s.Pod == "" },
	} {
		if i := slices.IndexFunc(services, is); i >= 0 {
			return services[i], !slices.ContainsFunc(services[i+1:], is)
		}
	}
	return Service{}, false
}

// ReadinessOf says whether the services of those names can answer; without names, all that
// can be forwarded.
func ReadinessOf(status Status, names []string) Readiness {
	var r Readiness
	asked := status.Services
	if len(names) > 0 {
		asked = nil
		for _, name := range names {
			if s, ok := Find(status.Services, name); ok {
				asked = append(asked, s)
			} else {
				r.Unknown = append(r.Unknown, name)
			}
		}
	}
	for _, s := range asked {
		if !s.State.Works() && (s.State != Skipped || len(names) > 0) {
			r.Waiting = append(r.Waiting, s)
		}
	}
	if status.Stopping {
		r.Problems = append(r.Problems, "kubeshore is just ending")
	}
	for _, c := range status.Contexts {
		if len(names) == 0 || len(r.Unknown) > 0 {
			r.Problems = append(r.Problems, c.Unread()...)
		}
		if len(names) == 0 {
			r.Problems = append(r.Problems, c.Problems...)
		}
	}
	r.Ready = status.Settled && len(r.Waiting)+len(r.Unknown)+len(r.Problems) == 0
	return r
}

// Unread says which namespaces aren't read yet, a line each.
func (c Context) Unread() []string {
	lines := make([]string, 0, len(c.Reading))
	for _, namespace := range c.Reading {
		line := "namespace " + namespace + " of context " + c.Name + " is still being read"
		if namespace == AllNamespaces {
			line = "context " + c.Name + " is still being read"
		}
		lines = append(lines, line)
	}
	return lines
}
