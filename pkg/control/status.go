package control

import (
	"slices"
	"strings"
)

// ID returns what tells the service from others.
func (s Service) ID() ServiceID {
	return ServiceID{Name: s.Name, Context: s.Context, Namespace: s.Namespace, Service: s.Service, Pod: s.Pod}
}

// Key returns what tells the service from others, whatever it is called now.
func (id ServiceID) Key() ServiceID {
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
			r.Problems = append(r.Problems, c.Syncing()...)
		}
		if len(names) == 0 {
			r.Problems = append(r.Problems, c.Problems...)
		}
	}
	r.Ready = status.Synced && len(r.Waiting)+len(r.Unknown)+len(r.Problems) == 0
	return r
}

// Syncing says which namespaces aren't read yet, a line each.
func (c Context) Syncing() []string {
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

// Apply makes of what stood before an event what stands with it. A service that has come
// is the last.
func (s *Status) Apply(e Event) {
	is := func(key ServiceID) func(Service) bool {
		return func(other Service) bool { return other.ID().Key() == key }
	}
	switch {
	case e.Status != nil:
		*s = *e.Status
		s.Services = slices.Clone(s.Services)
	case e.Overview != nil:
		s.Overview = *e.Overview
	case e.Gone != nil:
		s.Services = slices.DeleteFunc(s.Services, is(e.Gone.Key()))
	case e.Service != nil:
		if i := slices.IndexFunc(s.Services, is(e.Service.ID().Key())); i >= 0 {
			s.Services[i] = *e.Service
		} else {
			s.Services = append(s.Services, *e.Service)
		}
	}
}
