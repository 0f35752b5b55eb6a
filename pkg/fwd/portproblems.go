package fwd

import (
	"fmt"
	"net/netip"

	"github.com/kubeshore/kubeshore/internal/portlist"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// cause is a reason why a port doesn't work. Ports of a host with the same cause
// share one line.
type cause struct {
	kind causeKind
	pod  plan.PodRef // of closedCause and podCause
	text string      // not of closedCause
}

// causeKind is the kind of a [cause].
type causeKind int

const (
	// bindCause means that the port isn't bound.
	bindCause causeKind = iota + 1
	// deniedCause means that the cluster denies connections, to whichever port.
	deniedCause
	// closedCause means that nothing in the pod listens on the port.
	closedCause
	// podCause means that a connection to the pod failed for another reason.
	podCause
)

// portProblems collects the problems of a host's ports.
type portProblems struct {
	causes  []cause // in the order of the ports
	ports   map[cause][]uint16
	targets map[cause][]uint16 // the ports of the pod
}

// add adds a problem of a port. targetPort is 0 if no pod is concerned.
func (p *portProblems) add(c cause, port, targetPort uint16) {
	if p.ports == nil {
		p.ports, p.targets = make(map[cause][]uint16), make(map[cause][]uint16)
	}
	if len(p.ports[c]) == 0 {
		p.causes = append(p.causes, c)
	}
	p.ports[c] = append(p.ports[c], port)
	if targetPort != 0 {
		p.targets[c] = append(p.targets[c], targetPort)
	}
}

// lines returns the problems, a line each. address is the host's.
func (p *portProblems) lines(address netip.Addr) []string {
	lines := make([]string, 0, len(p.causes))
	for _, c := range p.causes {
		ports := portlist.Text(p.ports[c])
		switch c.kind {
		case bindCause:
			lines = append(lines, fmt.Sprintf("%s on %v: %s", ports, address, c.text))
		case deniedCause:
			lines = append(lines, c.text)
		case closedCause:
			lines = append(lines, fmt.Sprintf("%s: nothing listens on %s of pod %v; "+
				"a process that listens only on the pod's IP address isn't reachable, use 0.0.0.0 or 127.0.0.1", ports, portlist.Text(p.targets[c]), c.pod))
		case podCause:
			lines = append(lines, fmt.Sprintf("%s: pod %v: %s", ports, c.pod, c.text))
		}
	}
	return lines
}
