package fwd

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/internal/logevent"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// report logs the difference between two statuses: a line for each host, except
// implicit ones, that was added, changed or removed, for each new or resolved
// problem of a cluster, and for each new note.
func report(log logrus.FieldLogger, before, after Status) {
	reportClusters(log, before.Clusters, after.Clusters)
	for _, note := range without(after.Notes, before.Notes) {
		log.Info(note)
	}
	old := make(map[plan.HostID]HostStatus, len(before.Hosts))
	for _, h := range before.Hosts {
		old[h.ID] = h
	}
	var lines []line
	for _, h := range after.Hosts {
		prev, known := old[h.ID]
		delete(old, h.ID)
		if h.Implicit {
			continue
		}
		l := line{
			kind: logevent.Changed, columns: columns(h, after.Clusters),
			problems: without(h.Problems, prev.Problems), limits: without(h.Limits, prev.Limits), waiting: len(h.Ports) > 0 && h.Ready == 0,
		}
		if !known {
			l.kind = logevent.Added
		}
		if !known || len(l.problems)+len(l.limits)+len(without(prev.Problems, h.Problems)) > 0 || !slices.Equal(l.columns, columns(prev, before.Clusters)) {
			lines = append(lines, l)
		}
	}
	shareProblems(lines)
	logLines(log, lines)
	for _, h := range before.Hosts {
		if _, removed := old[h.ID]; removed && !h.Implicit {
			logEvent(log, logrus.InfoLevel, logevent.Removed, h.ID.DisplayName(before.Clusters))
		}
	}
}

// shareProblems replaces a problem that an earlier line has by a reference to that line.
func shareProblems(lines []line) {
	first := make(map[string]string)
	for i := range lines {
		for j, text := range lines[i].problems {
			if name, known := first[text]; known {
				lines[i].problems[j] = "see " + name
			} else {
				first[text] = lines[i].columns[0]
			}
		}
	}
}

// line is the log line of a host that was added or changed.
type line struct {
	kind    logevent.Kind
	columns []string // its name, address and number of ready pods

	problems, limits []string // new ones
	waiting          bool     // for a ready pod
}

// maxColumnWidth is the width of a column beyond which a text doesn't widen the
// column for the other lines.
const maxColumnWidth = 40

// logLines logs lines with aligned columns.
func logLines(log logrus.FieldLogger, lines []line) {
	var widths [3]int
	for _, l := range lines {
		for i, text := range l.columns {
			if len(text) <= maxColumnWidth {
				widths[i] = max(widths[i], len(text))
			}
		}
	}
	for _, l := range lines {
		var b strings.Builder
		last := len(l.columns) - 1
		for i, text := range l.columns[:last] {
			fmt.Fprintf(&b, "%-*s  ", widths[i], text)
		}
		b.WriteString(l.columns[last])
		level := logrus.InfoLevel
		if len(l.problems) > 0 || l.waiting {
			level = logrus.WarnLevel
		}
		for _, text := range slices.Concat(l.problems, l.limits) {
			b.WriteString("; " + text)
		}
		logEvent(log, level, l.kind, b.String())
	}
}

// logEvent logs a change of a host.
func logEvent(log logrus.FieldLogger, level logrus.Level, kind logevent.Kind, text string) {
	logevent.With(log.WithFields(nil), kind).Log(level, string(kind.Mark())+" "+text)
}

// reportClusters logs the new problems and notes of each cluster, and names those
// that have recovered. A problem that several contexts share is one line.
func reportClusters(log logrus.FieldLogger, before, after []plan.Cluster) {
	old := make(map[string]plan.Cluster, len(before))
	logged := make(map[string]bool)
	for _, c := range before {
		old[c.Context] = c
		for _, text := range slices.Concat(c.Problems, c.Notes) {
			logged[text] = true
		}
	}
	for _, c := range after {
		prev := old[c.Context]
		news := without(c.Problems, prev.Problems)
		for _, text := range news {
			if !logged[text] {
				log.Warn(text)
			}
			logged[text] = true
		}
		for _, text := range without(c.Notes, prev.Notes) {
			if !logged[text] {
				log.Info(text)
			}
			logged[text] = true
		}
		switch {
		case len(news) > 0:
		case len(without(prev.Problems, c.Problems)) == 0:
			if len(without(prev.Notes, c.Notes)) > 0 {
				log.Infof("context %s: a replacement for a missing permission is no longer in use", c.Context)
			}
		case len(c.Problems) == 0:
			log.Infof("context %s recovered", c.Context)
		default:
			log.Infof("context %s recovered in part; remaining: %s", c.Context, strings.Join(c.Problems, "; "))
		}
	}
}

// without returns the texts that are not in excluded.
func without(texts, excluded []string) (rest []string) {
	for _, text := range texts {
		if !slices.Contains(excluded, text) {
			rest = append(rest, text)
		}
	}
	return rest
}

// maxListedPorts limits the ports in a host's line.
const maxListedPorts = 20

// columns returns the columns of a host's line.
func columns(h HostStatus, clusters []plan.Cluster) []string {
	name := h.ID.DisplayName(clusters)
	switch {
	case h.Local:
		return []string{name, "runs on this machine"}
	case h.AliasOf != (plan.HostID{}):
		return []string{name, "alias of " + h.AliasOf.DisplayName(clusters)}
	case h.Address.IsValid():
		where := h.Address.String()
		var ports []string
		for _, p := range h.Ports {
			if p.Err == nil {
				ports = append(ports, strconv.Itoa(int(p.Number)))
			}
		}
		if len(ports) > 0 {
			where += ":" + strings.Join(ports[:min(len(ports), maxListedPorts)], ",")
		}
		if len(ports) > maxListedPorts {
			where += fmt.Sprintf(",… (%d ports)", len(ports))
		}
		return []string{name, where, readiness(h)}
	case len(h.Limits) > 0 && len(h.Problems) == 0:
		return []string{name, "skipped"}
	}
	return []string{name}
}

func readiness(h HostStatus) string {
	switch {
	case h.Pods == 0:
		return "no pods"
	case h.ID.Pod != "" && h.Ready == h.Pods:
		return "ready"
	case h.ID.Pod != "":
		return "not ready"
	default:
		return fmt.Sprintf("%d/%d ready", h.Ready, h.Pods)
	}
}
