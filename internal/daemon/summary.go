package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/kubeshore/kubeshore/pkg/control"
)

// announceReady logs how many services are ready once the initial state is in place,
// and again if all are for the first time after that. It returns when there is
// nothing more to log, or ctx ends.
func (d *Daemon) announceReady(ctx context.Context) {
	for announced := false; ; {
		changed := d.Changed()
		status := d.Status()
		if status.Synced && !status.Stopping {
			summary, problems := summarize(status)
			switch {
			case problems == 0:
				d.log.Info(summary)
				return
			case !announced:
				d.log.Warn(summary)
			}
			announced = true
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

const (
	// maxSummaryNames is how many services a summary names for each reason.
	maxSummaryNames = 3
	// maxSummaryReasons is how many reasons a summary has for each state.
	maxSummaryReasons = 3
)

// summarize returns a line about the services that can be forwarded: how many work, and
// which ones have problems. problems is the number of the latter, and of problems of
// contexts.
func summarize(status control.Status) (summary string, problems int) {
	ready, all := CountReady(status.Services)
	var parts []string
	for _, state := range []control.State{control.Failed, control.Waiting, control.Degraded} {
		if n, text := summarizeState(status.Services, state); n > 0 {
			problems += n
			parts = append(parts, fmt.Sprintf("%d %s: %s", n, state, text))
		}
	}
	for _, c := range status.Contexts {
		problems += len(c.Problems)
		parts = append(parts, c.Problems...)
	}
	switch {
	case all == 0:
		summary = "no services to forward"
	case problems == 0:
		return "ready: " + countServices(all), 0
	case ready == 0:
		summary = "not ready: 0 of " + countServices(all)
	default:
		summary = fmt.Sprintf("ready: %d of %s", ready, countServices(all))
	}
	if len(parts) > 0 {
		summary += " (" + strings.Join(parts, "; ") + ")"
	}
	return summary, problems
}

func countServices(n int) string {
	if n == 1 {
		return "1 service"
	}
	return fmt.Sprintf("%d services", n)
}

// summarizeState returns the number of services in a state, and their names by reason.
func summarizeState(services []control.Service, state control.State) (n int, text string) {
	var reasons []string
	names := make(map[string][]string)
	for _, s := range services {
		if s.State != state {
			continue
		}
		n++
		if !slices.Contains(reasons, s.Reason) {
			reasons = append(reasons, s.Reason)
		}
		names[s.Reason] = append(names[s.Reason], s.Name)
	}
	parts := make([]string, 0, maxSummaryReasons+1)
	for _, reason := range reasons[:min(len(reasons), maxSummaryReasons)] {
		list := names[reason]
		text := strings.Join(list[:min(len(list), maxSummaryNames)], ", ")
		if len(list) > maxSummaryNames {
			text += fmt.Sprintf(" and %d more", len(list)-maxSummaryNames)
		}
		parts = append(parts, text+": "+reason)
	}
	if len(reasons) > maxSummaryReasons {
		parts = append(parts, "…")
	}
	return n, strings.Join(parts, "; ")
}
