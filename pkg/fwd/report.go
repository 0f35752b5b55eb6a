package fwd

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/pkg/plan"
)

// report logs a line for each host that came, changed or went between two
// statuses, both sorted by ID, and for each problem of a cluster that did.
func report(log logrus.FieldLogger, before, after Status) {
	reportClusters(log, before.Clusters, after.Clusters)
	old := make(map[plan.HostID]HostStatus, len(before.Hosts))
	for _, h := range before.Hosts {
		old[h.ID] = h
	}
	var lines []line
	for _, h := range after.Hosts {
		prev, known := old[h.ID]
		delete(old, h.ID)
		l := describe(h, after.Clusters)
		l.problems, l.limits = without(h.Problems, prev.Problems), without(h.Limits, prev.Limits)
		if !known {
			l.mark = '+'
		}
		if !known || len(l.problems)+len(l.limits)+len(without(prev.Problems, h.Problems)) > 0 || !slices.Equal(l.columns, describe(prev, before.Clusters).columns) {
			lines = append(lines, l)
		}
	}
	logLines(log, lines)
	for _, h := range before.Hosts {
		if _, gone := old[h.ID]; gone {
			log.Infof("- %s", h.ID.DisplayName(before.Clusters))
		}
	}
}

// line is what is said of a host that came or changed.
type line struct {
	mark    byte     // + came, ~ changed
	columns []string // what it is called, where it is, and how many pods can answer

	problems, limits []string // those that are new
}

// maxColumn bounds how wide lines make a column for each other.
const maxColumn = 40

// logLines logs lines, with their columns below each other.
func logLines(log logrus.FieldLogger, lines []line) {
	var widths [3]int
	for _, l := range lines {
		for i, text := range l.columns {
			if len(text) <= maxColumn {
				widths[i] = max(widths[i], len(text))
			}
		}
	}
	for _, l := range lines {
		var b strings.Builder
		fmt.Fprintf(&b, "%c ", l.mark)
		last := len(l.columns) - 1
		for i, text := range l.columns[:last] {
			fmt.Fprintf(&b, "%-*s  ", widths[i], text)
		}
		b.WriteString(l.columns[last])
		level := logrus.InfoLevel
		if len(l.problems) > 0 {
			level = logrus.WarnLevel
		}
		for _, text := range slices.Concat(l.problems, l.limits) {
			b.WriteString("; " + text)
		}
		log.WithFields(nil).Log(level, b.String())
	}
}

func reportClusters(log logrus.FieldLogger, before, after []plan.Cluster) {
	old, now := problems(before), problems(after)
	for _, text := range without(now, old) {
		log.Warn(text)
	}
	for _, text := range without(old, now) {
		log.Infof("no longer so: %s", text)
	}
}

// without returns the texts that aren't among others.
func without(texts, others []string) (rest []string) {
	for _, text := range texts {
		if !slices.Contains(others, text) {
			rest = append(rest, text)
		}
	}
	return rest
}

func problems(clusters []plan.Cluster) (all []string) {
	for _, c := range clusters {
		all = append(all, c.Problems...)
	}
	return all
}

// describe returns the line of a host that is known and has nothing new that is wrong.
func describe(h HostStatus, clusters []plan.Cluster) line {
	columns := []string{h.ID.DisplayName(clusters)}
	switch {
	case h.Local:
		columns = append(columns, "runs on this machine")
	case h.AliasOf != (plan.HostID{}):
		columns = append(columns, "alias of "+h.AliasOf.DisplayName(clusters))
	case h.Address.IsValid():
		where := h.Address.String()
		var ports []string
		for _, p := range h.Ports {
			if p.Err == nil {
				ports = append(ports, strconv.Itoa(int(p.Number)))
			}
		}
		if len(ports) > 0 {
			where += ":" + strings.Join(ports, ",")
		}
		columns = append(columns, where, pods(h))
	case len(h.Limits) > 0 && len(h.Problems) == 0:
		columns = append(columns, "skipped")
	}
	return line{mark: '~', columns: columns}
}

func pods(h HostStatus) string {
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
