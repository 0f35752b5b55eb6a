package fwd

import (
	"fmt"
	"strings"

	"github.com/sirupsen/logrus"
)

// report logs a line for each host that came, changed or went between two
// statuses, both sorted by ID.
func report(log logrus.FieldLogger, before, after Status) {
	old := make(map[HostID]HostStatus, len(before.Hosts))
	for _, h := range before.Hosts {
		old[h.ID] = h
	}
	for _, h := range after.Hosts {
		prev, known := old[h.ID]
		delete(old, h.ID)
		switch {
		case known && (prev.equal(h) || describe(prev) == describe(h)):
		case len(h.Problems) > 0:
			log.Warnf("%s %s", mark(known), describe(h))
		default:
			log.Infof("%s %s", mark(known), describe(h))
		}
	}
	for _, h := range before.Hosts {
		if _, gone := old[h.ID]; gone {
			log.Infof("- %s", h.ID)
		}
	}
}

// mark is the first character of a host's line: + came, ~ changed, - went.
func mark(known bool) string {
	if known {
		return "~"
	}
	return "+"
}

// describe says all of a host in a line: what it is called, where it is, and
// how many pods can answer.
func describe(h HostStatus) string {
	var b strings.Builder
	b.WriteString(h.ID.String())
	if h.Address.IsValid() {
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
	for _, problem := range h.Problems {
		fmt.Fprintf(&b, "; %s", problem)
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
