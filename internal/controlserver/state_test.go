package controlserver

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/kubeshore/kubeshore/pkg/control"
	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// stateCase is a host and its state. The cases with a description are a table of
// docs/connections.md.
type stateCase struct {
	description string
	host        fwd.HostStatus
	unnamed     bool
	state       control.State
	reason      string
}

func stateCases() []stateCase {
	port := func(number uint16, reach fwd.Reach) fwd.PortStatus {
		return fwd.PortStatus{Number: number, Reach: reach}
	}
	reachable, notReady := port(80, fwd.Reachable), port(80, fwd.NotReady)
	inUse := fwd.PortStatus{Number: 81, Err: errors.New("in use")}
	ports := func(list ...fwd.PortStatus) []fwd.PortStatus { return list }
	full, short := "web.shop.svc.cluster.local", "web.shop"
	const udp = "port 53 is UDP; only TCP can be forwarded"
	return []stateCase{
		{"each port reaches a pod, and the names resolve to the service", fwd.HostStatus{Ports: ports(reachable, port(81, fwd.Reachable)), Names: []string{full, short}, Ready: 1, Pods: 1}, false, control.Ready, ""},
		{"the service also has a UDP port", fwd.HostStatus{Ports: ports(reachable), Ready: 1, Pods: 1, Limits: []string{udp}}, false, control.Ready, udp},
		{"the service runs on this machine (`local: true`)", fwd.HostStatus{Local: true}, false, control.Ready, ""},
		{"another program uses one of its ports", fwd.HostStatus{Ports: ports(reachable, inUse), Ready: 1, Pods: 1, Problems: []string{"in use"}}, false, control.Degraded, "in use"},
		{"no pod has one of its ports (`targetPort`)", fwd.HostStatus{Ports: ports(reachable, port(81, fwd.NoTarget)), Ready: 1, Pods: 1, Problems: []string{"no target"}}, false, control.Degraded, "no target"},
		{"connections to one of its ports fail with every pod", fwd.HostStatus{Ports: ports(reachable, port(81, fwd.Unreachable)), Ready: 1, Pods: 1, Problems: []string{"closed"}}, false, control.Degraded, "closed"},
		{"connections to one of several pods fail", fwd.HostStatus{Ports: ports(reachable), Ready: 2, Pods: 2, Problems: []string{"closed"}}, false, control.Degraded, "closed"},
		{"one of its short names belongs to somebody else", fwd.HostStatus{Ports: ports(reachable), Names: []string{full, short}, LostNames: []string{"web"}, Ready: 1, Pods: 1, Problems: []string{"taken"}}, false, control.Degraded, "taken"},
		{"kubeshore may not write the hosts file (`--rootless`)", fwd.HostStatus{Ports: ports(reachable), Ready: 1, Pods: 1}, true, control.Degraded, "reachable by address only: no names are written"},
		{"no pod exists", fwd.HostStatus{Ports: ports(notReady)}, false, control.Waiting, "no pods"},
		{"no pod is ready", fwd.HostStatus{Ports: ports(notReady), Pods: 2}, false, control.Waiting, "no pod is ready"},
		{"all of its short names belong to somebody else", fwd.HostStatus{Ports: ports(reachable), Names: []string{full}, LostNames: []string{short, "web"}, Ready: 1, Pods: 1, Problems: []string{"taken"}}, false, control.Failed, "taken"},
		{"other programs use all of its ports", fwd.HostStatus{Ports: ports(inUse), Ready: 1, Pods: 1, Problems: []string{"in use"}}, false, control.Failed, "in use"},
		{"no pod has any of its ports", fwd.HostStatus{Ports: ports(port(81, fwd.NoTarget)), Ready: 1, Pods: 1, Problems: []string{"no target"}}, false, control.Failed, "no target"},
		{"connections to all of its ports fail with every pod, or are denied, or the user may not forward to its namespace", fwd.HostStatus{Ports: ports(port(80, fwd.Unreachable)), Ready: 1, Pods: 1, Problems: []string{"closed"}}, false, control.Failed, "closed"},
		{"it has only UDP ports, or its endpoints aren't pods", fwd.HostStatus{Limits: []string{udp}}, false, control.Skipped, udp},

		{"", fwd.HostStatus{Ports: ports(notReady), Limits: []string{udp}}, false, control.Waiting, "no pods; " + udp},
		{"", fwd.HostStatus{Ports: ports(notReady), Pods: 2, Problems: []string{"conflict"}}, false, control.Waiting, "no pod is ready; conflict"},
		{"", fwd.HostStatus{ID: plan.HostID{Pod: "db-0"}, Ports: ports(notReady), Pods: 1}, false, control.Waiting, "the pod is not ready"},
		{"", fwd.HostStatus{Ports: ports(notReady, port(81, fwd.NoTarget)), Pods: 1, Problems: []string{"no target"}}, false, control.Waiting, "no pod is ready; no target"},
		{"", fwd.HostStatus{Ports: ports(port(81, fwd.NoTarget), inUse), Ready: 1, Pods: 1, Problems: []string{"no target", "in use"}}, false, control.Failed, "no target; in use"},
		{"", fwd.HostStatus{}, false, control.Failed, "no port can be forwarded"},
		{"", fwd.HostStatus{Ports: ports(notReady)}, true, control.Waiting, "no pods"},
		{"", fwd.HostStatus{Local: true, LostNames: []string{short}, Problems: []string{"taken"}}, false, control.Failed, "taken"},
		// With --names full there are no short names to lose.
		{"", fwd.HostStatus{Ports: ports(reachable), Names: []string{full}, Ready: 1, Pods: 1}, false, control.Ready, ""},
		{"", fwd.HostStatus{Ports: ports(reachable), LostNames: []string{full}, Ready: 1, Pods: 1, Problems: []string{"taken"}}, false, control.Failed, "taken"},
		{"", fwd.HostStatus{Ports: ports(reachable), Names: []string{short}, LostNames: []string{full}, Ready: 1, Pods: 1, Problems: []string{"taken"}}, false, control.Degraded, "taken"},
	}
}

// The reason begins with what keeps the service from being ready.
func TestStateAndReason(t *testing.T) {
	for _, c := range stateCases() {
		c.host.Address = netip.MustParseAddr("127.64.0.1")
		got := Services(fwd.Status{Hosts: []fwd.HostStatus{c.host}, Unnamed: c.unnamed}, nil)[0]
		if got.State != c.state || got.Reason != c.reason {
			t.Errorf("%s %+v: got %s: %q, want %s: %q", c.description, c.host, got.State, got.Reason, c.state, c.reason)
		}
	}
}

// The table of states in docs/connections.md is generated from the cases above.
func TestStateTable(t *testing.T) {
	const path, begin, end = "../../docs/connections.md", "<!-- states: generated by make docs -->\n", "<!-- end of states -->\n"
	var table strings.Builder
	table.WriteString("| state | if |\n| --- | --- |\n")
	for _, c := range stateCases() {
		if c.description != "" {
			fmt.Fprintf(&table, "| %s | %s |\n", c.state, c.description)
		}
	}
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(page), begin)
	got, after, foundEnd := strings.Cut(rest, end)
	if !found || !foundEnd {
		t.Fatalf("%s lacks the lines %q and %q", path, begin, end)
	}
	if want := "\n" + table.String() + "\n"; *update {
		if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got != want {
		t.Errorf("the table of states in %s is stale; run make docs", path)
	}
}
