package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kubeshore/kubeshore/internal/term"
	"github.com/kubeshore/kubeshore/pkg/control"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

const (
	// checkTimeout bounds the checks of one call of Ready. It is shorter than the
	// time that clients of the API wait for a response.
	checkTimeout = 3 * time.Second
	// maxChecks bounds the services that one call of Ready checks.
	maxChecks = 64
)

// Ready implements controlserver.Daemon. A failure that no connection has met yet,
// e.g. a policy that denies port-forward, is otherwise unknown.
func (d *Daemon) Ready(ctx context.Context, names []string) control.Readiness {
	status := d.Status()
	r := control.ReadinessOf(status, names)
	f := d.forward.Load()
	if f == nil || !r.Ready && !r.Hopeless() {
		return r
	}
	ctx, cancel := context.WithTimeoutCause(ctx, checkTimeout, fmt.Errorf("no connection to a pod within %v", checkTimeout))
	defer cancel()
	hosts := hostsToCheck(status.Services, names)
	unknown := f.engine.Check(ctx, hosts)
	r = control.ReadinessOf(d.Status(), names)
	for _, host := range hosts {
		if err := unknown[host]; err != nil {
			r.Problems = append(r.Problems, err.Error())
		}
	}
	slices.Sort(r.Problems)
	r.Problems = slices.Compact(r.Problems)
	r.Ready = r.Ready && len(r.Problems) == 0
	return r
}

// hostsToCheck returns the hosts of the named services. Without names it returns
// those that are denied, and one of each other namespace, because the API server
// usually denies port-forward for namespaces as a whole.
func hostsToCheck(services []control.Service, names []string) (hosts []plan.HostID) {
	add := func(s control.Service) {
		if target, ok := control.Find(services, s.AliasOf); ok {
			s = target
		}
		id := plan.HostID{Service: plan.ServiceID{Context: s.Context, Namespace: s.Namespace, Name: s.Service}, Pod: s.Pod}
		if len(hosts) < maxChecks && !slices.Contains(hosts, id) {
			hosts = append(hosts, id)
		}
	}
	for _, name := range names {
		if s, ok := control.Find(services, name); ok {
			add(s)
		}
	}
	if len(names) > 0 {
		return hosts
	}
	checked := make(map[plan.ServiceID]bool) // the namespaces
	for _, denied := range []bool{true, false} {
		for _, s := range services {
			namespace := plan.ServiceID{Context: s.Context, Namespace: s.Namespace}
			if s.Denied == denied && s.ReadyPods > 0 && s.AliasOf == "" && (denied || !checked[namespace]) {
				checked[namespace] = true
				add(s)
			}
		}
	}
	return hosts
}

// WaitReady waits until all services are ready, or all others have failed for good,
// or for the timeout. Then it logs those that are not ready. Meanwhile show gets a status line whenever it changes.
// It returns false if ctx ended first.
func (d *Daemon) WaitReady(ctx context.Context, timeout time.Duration, show func(text string)) bool {
	expired := time.NewTimer(timeout)
	defer expired.Stop()
	tick := time.NewTicker(term.RedrawInterval)
	defer tick.Stop()
	for shown := ""; ; {
		changed := d.Changed()
		status := d.Status()
		readiness := control.ReadinessOf(status, nil)
		if readiness.Ready {
			readiness = d.Ready(ctx, nil)
		}
		if readiness.Ready {
			return true
		}
		if readiness.Hopeless() {
			d.log.Warnf("not ready: %s", DescribeReadiness(readiness))
			return true
		}
		if text := d.waitingLine(status, readiness); text != shown {
			show(text)
			shown = text
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		case <-tick.C:
		case <-expired.C:
			d.log.Warnf("not ready after %v: %s", timeout, DescribeReadiness(readiness))
			return true
		}
	}
}

// maxWaitingNames is how many services a status line names.
const maxWaitingNames = 3

// waitingLine returns the status line with the services that are not ready.
func (d *Daemon) waitingLine(status control.Status, readiness control.Readiness) string {
	if !status.Synced || len(readiness.Waiting) == 0 {
		return d.StatusLine()
	}
	var names, parts []string
	failed := 0
	for _, s := range readiness.Waiting {
		if s.State == control.Waiting {
			names = append(names, s.Name)
		} else {
			failed++
		}
	}
	if failed > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", failed))
	}
	if len(names) > maxWaitingNames {
		names = append(names[:maxWaitingNames], "…")
	}
	if len(names) > 0 {
		parts = append(parts, "waiting for "+strings.Join(names, ", "))
	}
	return statusLine(status, strings.Join(parts, " · "))
}

// maxReasons is how many services DescribeReadiness explains.
const maxReasons = 5

// DescribeReadiness returns one line that lists the services that aren't ready, with
// the reasons.
func DescribeReadiness(r control.Readiness) string {
	var parts []string
	for _, name := range r.Unknown {
		parts = append(parts, "no such service: "+name)
	}
	for _, s := range r.Waiting[:min(len(r.Waiting), maxReasons)] {
		parts = append(parts, s.Name+": "+s.Reason)
	}
	if n := len(r.Waiting) - maxReasons; n > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", n))
	}
	parts = append(parts, r.Problems...)
	if len(parts) == 0 {
		return "starting"
	}
	return strings.Join(parts, "; ")
}
