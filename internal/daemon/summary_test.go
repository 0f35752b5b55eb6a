package daemon

import (
	"fmt"
	"testing"

	"github.com/kubeshore/kubeshore/pkg/control"
)

// The summary of the start counts the services that work, and never claims that services
// are ready that aren't.
func TestSummary(t *testing.T) {
	service := func(name string, state control.State, reason string) control.Service {
		return control.Service{Name: name, State: state, Reason: reason}
	}
	many := make([]control.Service, 0, 41)
	for i := range 37 {
		many = append(many, service(fmt.Sprintf("ok-%d", i), control.Ready, ""))
	}
	for i := range 4 {
		many = append(many, service(fmt.Sprintf("web-%d", i), control.Waiting, "no pods"))
	}
	for _, c := range []struct {
		services []control.Service
		want     string
		problems int
	}{
		{nil, "no services to forward", 0},
		{many[:37], "ready: 37 services", 0},
		{many, "ready: 37 of 41 services (4 waiting: web-0, web-1, web-2 and 1 more: no pods)", 4},
		{many[40:], "not ready: 0 of 1 service (1 waiting: web-3: no pods)", 1},
		{
			[]control.Service{service("a", control.Degraded, "x"), service("b", control.Degraded, "y"), service("c", control.Failed, "z"), service("d", control.Skipped, "udp")},
			"ready: 2 of 3 services (1 failed: c: z; 2 degraded: a: x; b: y)", 3,
		},
		{
			[]control.Service{service("a", control.Failed, "1"), service("b", control.Failed, "2"), service("c", control.Failed, "3"), service("d", control.Failed, "4")},
			"not ready: 0 of 4 services (4 failed: a: 1; b: 2; c: 3; …)", 4,
		},
		{[]control.Service{service("d", control.Skipped, "udp")}, "no services to forward", 0},
	} {
		if got, problems := summarize(control.Status{Services: c.services}); got != c.want || problems != c.problems {
			t.Errorf("got %q, %d problems; want %q, %d", got, problems, c.want, c.problems)
		}
	}
}

// A problem of a context is part of the summary: services may be missing.
func TestSummaryOfContexts(t *testing.T) {
	status := control.Status{Overview: control.Overview{Contexts: []control.Context{{Name: "dev", Problems: []string{"namespace shpo not found or empty"}}}}}
	if got, problems := summarize(status); got != "no services to forward (namespace shpo not found or empty)" || problems != 1 {
		t.Errorf("got %q, %d problems", got, problems)
	}
	status.Services = []control.Service{{Name: "web", State: control.Ready}}
	if got, problems := summarize(status); got != "ready: 1 of 1 service (namespace shpo not found or empty)" || problems != 1 {
		t.Errorf("got %q, %d problems", got, problems)
	}
}
