package control

import (
	"fmt"
	"slices"
	"strings"
)

// Works reports whether a service in this state handles connections.
func (s State) Works() bool { return s == Ready || s == Degraded }

// ID returns the ServiceID of s.
func (s Service) ID() ServiceID {
	return ServiceID{Name: s.Name, Context: s.Context, Namespace: s.Namespace, Service: s.Service, Pod: s.Pod}
}

// Key returns id without its name, which can change: two IDs are of the same service if
// their keys are equal.
func (id ServiceID) Key() ServiceID {
	id.Name = ""
	return id
}

// Find returns the only service with the given name. It looks for a hostname that resolves
// to the service on this machine, then for the service's short name, then for the name of
// the Service in its namespace.
func Find(services []Service, name string) (Service, bool) {
	host := strings.ToLower(strings.TrimSuffix(name, "."))
	for _, matches := range []func(Service) bool{
		func(s Service) bool { return slices.Contains(s.Names, host) },
		func(s Service) bool { return s.Name == host },
		func(s Service) bool { return s.Service == name && s.Pod == "" },
	} {
		if i := slices.IndexFunc(services, matches); i >= 0 {
			return services[i], !slices.ContainsFunc(services[i+1:], matches)
		}
	}
	return Service{}, false
}

// ReadinessOf returns the readiness of the named services. Without names, it covers all
// services that can be forwarded.
func ReadinessOf(status Status, names []string) Readiness {
	var r Readiness
	selected := status.Services
	if len(names) > 0 {
		selected = nil
		named := slices.ContainsFunc(status.Services, func(s Service) bool { return len(s.Names) > 0 }) // else the hosts file isn't used
		for _, name := range names {
			s, ok := Find(status.Services, name)
			switch {
			case !ok:
				r.Unknown = append(r.Unknown, name)
				continue
			case named && s.State.Works() && !slices.Contains(s.Names, strings.ToLower(strings.TrimSuffix(name, "."))):
				r.Problems = append(r.Problems, fmt.Sprintf("%s doesn't lead to the service on this machine; it resolves as %s", name, strings.Join(s.Names, ", ")))
			}
			selected = append(selected, s)
		}
	}
	for _, s := range selected {
		switch {
		case s.State == Degraded:
			r.Degraded = append(r.Degraded, s)
		case s.State != Ready && (s.State != Skipped || len(names) > 0):
			r.Waiting = append(r.Waiting, s)
		}
	}
	if status.Stopping {
		r.Problems = append(r.Problems, "kubeshore is shutting down")
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

// Hopeless reports whether all services that aren't ready never will be unless somebody
// changes something: the cluster denies connections to them, or they are skipped.
func (r Readiness) Hopeless() bool {
	return len(r.Waiting) > 0 && len(r.Unknown)+len(r.Problems) == 0 &&
		!slices.ContainsFunc(r.Waiting, func(s Service) bool { return !s.Denied && s.State != Skipped })
}

// Syncing returns a message for each namespace in Reading.
func (c Context) Syncing() []string {
	messages := make([]string, 0, len(c.Reading))
	for _, namespace := range c.Reading {
		message := fmt.Sprintf("namespace %s of context %s is still syncing", namespace, c.Name)
		if namespace == AllNamespaces {
			message = fmt.Sprintf("context %s is still syncing", c.Name)
		}
		messages = append(messages, message)
	}
	return messages
}

// Apply updates s with an event. It appends an added service at the end.
func (s *Status) Apply(e Event) {
	hasKey := func(key ServiceID) func(Service) bool {
		return func(other Service) bool { return other.ID().Key() == key }
	}
	switch {
	case e.Status != nil:
		*s = *e.Status
		s.Services = slices.Clone(s.Services)
	case e.Overview != nil:
		s.Overview = *e.Overview
	case e.Gone != nil:
		s.Services = slices.DeleteFunc(s.Services, hasKey(e.Gone.Key()))
	case e.Service != nil:
		if i := slices.IndexFunc(s.Services, hasKey(e.Service.ID().Key())); i >= 0 {
			s.Services[i] = *e.Service
		} else {
			s.Services = append(s.Services, *e.Service)
		}
	}
}
