package controlserver

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/kubeshore/kubeshore/pkg/control"
	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// The reason begins with what keeps the service from being ready.
func TestStateAndReason(t *testing.T) {
	open, closed := fwd.PortStatus{Number: 80}, fwd.PortStatus{Number: 81, Err: errors.New("in use")}
	const udp = "port 53 is UDP; only TCP can be forwarded"
	for name, c := range map[string]struct {
		host   fwd.HostStatus
		state  control.State
		reason string
	}{
		"ready":                      {fwd.HostStatus{Ports: []fwd.PortStatus{open}, Ready: 1, Pods: 1}, control.Ready, ""},
		"ready with a UDP port":      {fwd.HostStatus{Ports: []fwd.PortStatus{open}, Ready: 1, Pods: 1, Limits: []string{udp}}, control.Ready, udp},
		"one port in use":            {fwd.HostStatus{Ports: []fwd.PortStatus{open, closed}, Ready: 1, Pods: 1, Problems: []string{"in use"}}, control.Degraded, "in use"},
		"all ports in use":           {fwd.HostStatus{Ports: []fwd.PortStatus{closed}, Ready: 1, Pods: 1, Problems: []string{"in use"}}, control.Failed, "in use"},
		"unreachable":                {fwd.HostStatus{Ports: []fwd.PortStatus{open}, Ready: 1, Pods: 1, Unreachable: true, Problems: []string{"closed"}}, control.Failed, "closed"},
		"no pods":                    {fwd.HostStatus{Ports: []fwd.PortStatus{open}}, control.Waiting, "no pods"},
		"no pods, with a UDP port":   {fwd.HostStatus{Ports: []fwd.PortStatus{open}, Limits: []string{udp}}, control.Waiting, "no pods; " + udp},
		"not ready, with a conflict": {fwd.HostStatus{Ports: []fwd.PortStatus{open}, Pods: 2, Problems: []string{"conflict"}}, control.Waiting, "no pod is ready; conflict"},
		"only a UDP port":            {fwd.HostStatus{Limits: []string{udp}}, control.Skipped, udp},
		"no ports":                   {fwd.HostStatus{}, control.Failed, "no port can be forwarded"},
		"local":                      {fwd.HostStatus{Local: true}, control.Ready, ""},
		"pod is not ready":           {fwd.HostStatus{ID: plan.HostID{Pod: "db-0"}, Ports: []fwd.PortStatus{open}, Pods: 1}, control.Waiting, "the pod is not ready"},
	} {
		c.host.Address = netip.MustParseAddr("127.64.0.1")
		got := Services(fwd.Status{Hosts: []fwd.HostStatus{c.host}}, nil)[0]
		if got.State != c.state || got.Reason != c.reason {
			t.Errorf("%s: got %s: %q, want %s: %q", name, got.State, got.Reason, c.state, c.reason)
		}
	}
}
