package fwd_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// Check finds failures that no connection has met, and the Status has them when it
// returns.
func TestCheckPublishesFailures(t *testing.T) {
	web := plan.HostID{Service: service("web").ID}
	check := func(b *bubble, when string, wantDenied, wantUnreachable bool, wantProblems string) {
		b.Helper()
		if unknown := b.engine.Check(context.Background(), []plan.HostID{web}); len(unknown) > 0 {
			b.Errorf("%s: got errors %v", when, unknown)
		}
		h := b.engine.Status().Hosts[0]
		if got := strings.Join(h.Problems, "; "); h.Denied != wantDenied || unreachable(h) != wantUnreachable || got != wantProblems {
			b.Errorf("%s: got denied %t, unreachable %t, problems %q", when, h.Denied, unreachable(h), got)
		}
	}
	deniedService := service("web", "a")
	deniedService.Denied = "you may not create pods/portforward"
	for name, c := range map[string]struct {
		svc  plan.Service
		pods map[string]behavior
		test func(b *bubble)
	}{
		"denied": {service("web", "a"), map[string]behavior{"a": failsDial(fwd.Denied)}, func(b *bubble) {
			check(b, "policy", true, true, "unreached")
			check(b, "policy, again", true, true, "unreached")
			b.fleet.setBehavior("a", writes("a"))
			check(b, "policy removed", false, false, "")
		}},
		"a missing permission, before and after a connection": {deniedService, map[string]behavior{"a": failsDial(fwd.Denied)}, func(b *bubble) {
			b.sleep(time.Second)
			if h := b.engine.Status().Hosts[0]; !h.Denied || !unreachable(h) || !slices.Equal(h.Problems, []string{deniedService.Denied}) {
				b.Errorf("at the start: got denied %t, unreachable %t, problems %q", h.Denied, unreachable(h), h.Problems)
			}
			check(b, "after a check", true, true, deniedService.Denied)
			b.fleet.setBehavior("a", writes("a")) // the user has a permission for this pod alone
			b.wantAnswer("a")
			b.sleep(time.Second)
			check(b, "after an answer", false, false, "")
		}},
		"a permission that is granted": {deniedService, map[string]behavior{"a": failsDial(fwd.Denied)}, func(b *bubble) {
			b.sleep(time.Second)
			check(b, "after a check", true, true, deniedService.Denied)
			b.set(service("web", "a"))
			b.sleep(time.Second)
			if h := b.engine.Status().Hosts[0]; h.Denied || unreachable(h) || len(h.Problems) > 0 {
				b.Errorf("after it was granted: got denied %t, unreachable %t, problems %q", h.Denied, unreachable(h), h.Problems)
			}
		}},
		"a denial replaces another problem": {service("web", "a"), map[string]behavior{"a": failsRead(fwd.PodGone)}, func(b *bubble) {
			b.wantReset(3 * time.Second)
			b.fleet.setBehavior("a", failsDial(fwd.Denied))
			check(b, "policy", true, true, "unreached")
		}},
		"one pod of two": {service("web", "a", "b"), map[string]behavior{"a": failsDial(fwd.NodeUnreachable), "b": writes("b")}, func(b *bubble) {
			check(b, "node of a is away", false, false, "port 80: pod ns/a: unreached")
		}},
		"both pods": {service("web", "a", "b"), map[string]behavior{"a": failsDial(fwd.NodeUnreachable), "b": failsDial(fwd.PodGone)}, func(b *bubble) {
			check(b, "both fail", false, true, "port 80: pod ns/a: unreached")
		}},
		"the process isn't contacted": {service("web", "a"), map[string]behavior{"a": failsRead(fwd.PortClosed)}, func(b *bubble) {
			check(b, "before a connection", false, false, "")
			b.wantReset(0)
			b.sleep(time.Second)
			if h := b.engine.Status().Hosts[0]; !unreachable(h) {
				b.Error("got a reachable host after a refused connection")
			}
			if b.engine.Check(context.Background(), []plan.HostID{web}); !unreachable(b.engine.Status().Hosts[0]) {
				b.Error("a check has cleared the problem of a process")
			}
		}},
		"no pod": {service("web"), nil, func(b *bubble) { check(b, "no pod", false, false, "") }},
		"recorded but not published": {service("web", "a"), map[string]behavior{"a": failsDial(fwd.Denied)}, func(b *bubble) {
			b.wantReset(0)
			check(b, "at once", true, true, "unreached")
		}},
	} {
		t.Run(name, func(t *testing.T) { inBubble(t, c.svc, c.pods, nil, c.test) })
	}
}

// If the cluster can't be reached, nothing is known about the host.
func TestCheckOfAnUnreachableCluster(t *testing.T) {
	inBubble(t, service("web", "a"), map[string]behavior{"a": failsDial(fwd.ClusterUnreachable)}, nil, func(b *bubble) {
		web := plan.HostID{Service: service("web").ID}
		unknown := b.engine.Check(context.Background(), []plan.HostID{web})
		if unreached := new(fwd.UnreachedError); !errors.As(unknown[web], &unreached) || unreachable(b.engine.Status().Hosts[0]) {
			t.Errorf("got errors %v, status %+v", unknown, b.engine.Status().Hosts[0])
		}
	})
}

// unreachable reports whether connections to all ports of a host fail.
func unreachable(h fwd.HostStatus) bool {
	return !slices.ContainsFunc(h.Ports, func(p fwd.PortStatus) bool { return p.Reach != fwd.Unreachable })
}
