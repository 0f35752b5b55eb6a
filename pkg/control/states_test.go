package control

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// What a service is said to be, and why: what keeps it from answering comes first.
func TestStates(t *testing.T) {
	open, closed := fwd.PortStatus{Number: 80}, fwd.PortStatus{Number: 81, Err: errors.New("in use")}
	const udp = "port 53 is UDP; only TCP can be forwarded"
	for name, c := range map[string]struct {
		host   fwd.HostStatus
		state  State
		reason string
	}{
		"ready":                   {fwd.HostStatus{Ports: []fwd.PortStatus{open}, Ready: 1, Pods: 1}, Ready, ""},
		"ready, and UDP":          {fwd.HostStatus{Ports: []fwd.PortStatus{open}, Ready: 1, Pods: 1, Limits: []string{udp}}, Ready, udp},
		"a port in use":           {fwd.HostStatus{Ports: []fwd.PortStatus{open, closed}, Ready: 1, Pods: 1, Problems: []string{"in use"}}, Degraded, "in use"},
		"all in use":              {fwd.HostStatus{Ports: []fwd.PortStatus{closed}, Ready: 1, Pods: 1, Problems: []string{"in use"}}, Failed, "in use"},
		"barred":                  {fwd.HostStatus{Ports: []fwd.PortStatus{open}, Ready: 1, Pods: 1, Barred: true, Problems: []string{"closed"}}, Failed, "closed"},
		"no pods":                 {fwd.HostStatus{Ports: []fwd.PortStatus{open}}, Waiting, "it has no pods"},
		"no pods, and UDP":        {fwd.HostStatus{Ports: []fwd.PortStatus{open}, Limits: []string{udp}}, Waiting, "it has no pods; " + udp},
		"not ready, and a clash":  {fwd.HostStatus{Ports: []fwd.PortStatus{open}, Pods: 2, Problems: []string{"taken"}}, Waiting, "no pod is ready; taken"},
		"UDP alone":               {fwd.HostStatus{Limits: []string{udp}}, Skipped, udp},
		"nothing, for whatever":   {fwd.HostStatus{}, Failed, "it has no port that can be forwarded"},
		"runs on this machine":    {fwd.HostStatus{Local: true}, Ready, ""},
		"a pod that is not ready": {fwd.HostStatus{ID: plan.HostID{Pod: "db-0"}, Ports: []fwd.PortStatus{open}, Pods: 1}, Waiting, "the pod is not ready"},
	} {
		c.host.Address = netip.MustParseAddr("127.64.0.1")
		got := Services(fwd.Status{Hosts: []fwd.HostStatus{c.host}}, nil)[0]
		if got.State != c.state || got.Reason != c.reason {
			t.Errorf("%s: it is %s: %q, want %s: %q", name, got.State, got.Reason, c.state, c.reason)
		}
	}
}

// What can't be forwarded by what it is doesn't keep all from being ready; who asks for it
// by name hears why.
func TestSkippedIsNotWaitedFor(t *testing.T) {
	status := Status{Overview: Overview{Settled: true}, Services: []Service{service("web", Ready), service("mail", Skipped)}}
	if r := ReadinessOf(status, nil); !r.Ready {
		t.Errorf("%+v", r)
	}
	if r := ReadinessOf(status, []string{"mail"}); r.Ready || len(r.Waiting) != 1 {
		t.Errorf("by name: %+v", r)
	}
}
