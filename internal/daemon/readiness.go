package daemon

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/kubeshore/kubeshore/internal/term"
	"github.com/kubeshore/kubeshore/pkg/control"
)

// WaitReady waits until all services are ready, or for the timeout, after which it
// logs those that are not. Meanwhile show gets a status line whenever it changes.
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
	var names []string
	for _, s := range readiness.Waiting[:min(len(readiness.Waiting), maxWaitingNames)] {
		names = append(names, s.Name)
	}
	if len(readiness.Waiting) > maxWaitingNames {
		names = append(names, "…")
	}
	return statusLine(status, "waiting for "+strings.Join(names, ", "))
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
