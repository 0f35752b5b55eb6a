package fwd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
)

// report logs a line for each host that came, changed or went between two
// statuses, both sorted by ID, and for each problem of a cluster that did.
func report(log logrus.FieldLogger, before, after Status) {
	reportClusters(log, before.Clusters, after.Clusters)
	old := make(map[HostID]HostStatus, len(before.Hosts))
	for _, h := range before.Hosts {
		old[h.ID] = h
	}
	for _, h := range after.Hosts {
		prev, known := old[h.ID]
		delete(old, h.ID)
		news := without(h.Problems, prev.Problems)
		switch {
		case len(news) > 0:
			log.Warnf("%s %s; %s", mark(known), describe(h, after.Clusters), strings.Join(news, "; "))
		case !known || describe(prev, before.Clusters) != describe(h, after.Clusters) || len(without(prev.Problems, h.Problems)) > 0:
			log.Infof("%s %s", mark(known), describe(h, after.Clusters))
		}
	}
	for _, h := range before.Hosts {
		if _, gone := old[h.ID]; gone {
			log.Infof("- %s", h.ID.In(before.Clusters))
		}
	}
}

func reportClusters(log logrus.FieldLogger, before, after []Cluster) {
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

func problems(clusters []Cluster) (all []string) {
	for _, c := range clusters {
		all = append(all, c.Problems...)
	}
	return all
}

// mark is the first character of a host's line: + came, ~ changed, - went.
func mark(known bool) string {
	if known {
		return "~"
	}
	return "+"
}

// describe says in a line what a host is called, where it is, and how many pods
// can answer.
func describe(h HostStatus, clusters []Cluster) string {
	var b strings.Builder
	b.WriteString(h.ID.In(clusters))
	switch {
	case h.Local:
		b.WriteString("  runs on this machine")
	case h.AliasOf != (HostID{}):
		fmt.Fprintf(&b, "  another name of %s", h.AliasOf.In(clusters))
	case h.Address.IsValid():
		fmt.Fprintf(&b, "  %s", h.Address)
		separator := byte(':')
		for _, p := range h.Ports {
			if p.Err == nil {
				fmt.Fprintf(&b, "%c%d", separator, p.Number)
				separator = ','
			}
		}
		fmt.Fprintf(&b, "  %s", pods(h))
	}
	return b.String()
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
		return fmt.Sprintf("%d/%d pods ready", h.Ready, h.Pods)
	}
}
