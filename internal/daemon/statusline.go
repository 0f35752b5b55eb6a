package daemon

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kubeshore/kubeshore/internal/term"
	"github.com/kubeshore/kubeshore/pkg/control"
	"github.com/kubeshore/kubeshore/pkg/kube"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// StatusLine implements term.StatusSource.
func (d *Daemon) StatusLine() string {
	status := d.Status()
	if status.Synced || status.Stopping {
		return statusLine(status, "")
	}
	return statusLine(status, progress(d.config.Resolved().Follow, d.config.Source.Snapshot()))
}

// progress returns how far the clusters have been read.
func progress(follows []kube.Follow, snapshot plan.Snapshot) string {
	var reading []string
	for _, follow := range follows {
		i := slices.IndexFunc(snapshot.Clusters, func(c plan.Cluster) bool { return c.Context == follow.Context })
		if i < 0 || len(unread(follow.Namespaces, snapshot.Clusters[i].Read)) > 0 {
			reading = append(reading, follow.Context)
		}
	}
	var parts []string
	if n := len(snapshot.Services); n > 0 {
		parts = append(parts, fmt.Sprintf("services found: %d", n))
	}
	if len(reading) > 0 {
		parts = append(parts, "reading "+strings.Join(reading, ", "))
	}
	return strings.Join(parts, ", ")
}

// CountReady returns how many services work, of those that can be forwarded.
func CountReady(services []control.Service) (ready, all int) {
	for _, s := range services {
		if s.State.Works() {
			ready++
		}
		if s.State != control.Skipped {
			all++
		}
	}
	return ready, all
}

// statusLine returns a status in a line, the most important first. detail, if not
// empty, comes second.
func statusLine(status control.Status, detail string) string {
	var parts []string
	switch {
	case status.Stopping:
		parts = append(parts, "shutting down")
	case !status.Synced:
		parts = append(parts, "starting", detail)
	default:
		parts = append(parts, syncedParts(status, detail)...)
	}
	contexts := make([]string, 0, len(status.Contexts))
	for _, c := range status.Contexts {
		namespaces := strings.Join(c.Namespaces, ",")
		if len(c.Namespaces) == 0 {
			namespaces = "all namespaces"
		}
		contexts = append(contexts, c.Name+"/"+namespaces)
	}
	parts = append(parts, strings.Join(contexts, " "))
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), " · ")
}

// syncedParts returns the parts of the status line once the initial state is in
// place.
func syncedParts(status control.Status, detail string) []string {
	ready, all := CountReady(status.Services)
	open := 0
	var up, down uint64
	for _, s := range status.Services {
		open += s.Connections
		up, down = up+s.BytesUp, down+s.BytesDown
	}
	parts := []string{fmt.Sprintf("%d/%d services ready", ready, all), detail}
	if n := len(status.Problems); n > 0 {
		parts = append(parts, fmt.Sprintf("problems: %d", n))
	}
	for _, c := range status.Contexts {
		if len(c.Reading) > 0 {
			parts = append(parts, "reading "+c.Name)
		}
		if n := len(c.Problems); n > 0 {
			parts = append(parts, fmt.Sprintf("%s: problems: %d", c.Name, n))
		}
	}
	return append(parts, fmt.Sprintf("%d open", open), "↑"+term.Bytes(up)+" ↓"+term.Bytes(down))
}

// DescribeContexts returns the contexts and namespaces that are forwarded, in a line.
func DescribeContexts(contexts []control.Context) string {
	texts := make([]string, 0, len(contexts))
	for _, c := range contexts {
		texts = append(texts, describeContext(c))
	}
	return strings.Join(texts, "; ")
}

func describeContext(c control.Context) string {
	switch len(c.Namespaces) {
	case 0:
		return "all namespaces of context " + c.Name
	case 1:
		return fmt.Sprintf("namespace %s of context %s", c.Namespaces[0], c.Name)
	}
	return fmt.Sprintf("namespaces %s of context %s", strings.Join(c.Namespaces, ", "), c.Name)
}
