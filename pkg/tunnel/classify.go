package tunnel

import (
	"errors"
	"regexp"
	"strings"

	"github.com/kubeshore/kubeshore/internal/printable"
	"github.com/kubeshore/kubeshore/pkg/fwd"
)

// What kubelets and container runtimes say of a connection in a pod; where each
// text comes from is in the table of TestClassify.
var (
	// midway: bytes have been exchanged, or may have been.
	midwayPattern = regexp.MustCompile(`\b(read|write) tcp|connection reset|[Bb]roken pipe`)
	// nodeUnreachablePattern is the API server's word for a node that it can't reach.
	nodeUnreachablePattern = regexp.MustCompile(`error dialing backend: .*`)
	// unconnected: the connection within the pod was not made.
	dialFailedPattern = regexp.MustCompile(`\bdial tcp|failed to connect to localhost:|socat\[\d+\] E connect\(`)
	refusedPattern    = regexp.MustCompile(`[Cc]onnection refused`)
	// unmade: nothing to make the connection in.
	sandboxGonePattern = regexp.MustCompile(`(failed to find sandbox|[Ss]andbox .*is not running|network namespace for sandbox .* is closed|` +
		`network namespace path of sandbox .* is empty|could not find sandbox|PodSandbox with ID starting with .* not found|` +
		`pod not found|container not found|container not running|does not have a host assigned|failed to Statfs|` +
		`unable to do port forwarding: ).*`)
	// portPattern is where they name the port.
	portPattern = regexp.MustCompile(`(?:error forwarding port |localhost:|127\.0\.0\.1:)(\d+)`)
	// prefixPattern is what they put around the reason.
	prefixPattern = regexp.MustCompile(`^.*(?:error forwarding port \d+ to pod [^:]*: |network namespace "[^"]*": )`)
)

// classify returns what the text of a port-forward's error stream says, if it
// proves that the connection within the pod was never made, and nil if not.
func classify(fault string) *fwd.UnreachedError {
	why := fwd.PodGone
	var text string
	switch {
	case midwayPattern.MatchString(fault):
		return nil
	case nodeUnreachablePattern.MatchString(fault):
		text = "the pod's node can't be reached: " + nodeUnreachablePattern.FindString(fault)
	case dialFailedPattern.MatchString(fault) && refusedPattern.MatchString(fault):
		why, text = fwd.PortClosed, "nothing listens on that port of the pod"
		if found := portPattern.FindStringSubmatch(fault); found != nil {
			text = "nothing listens on port " + found[1] + " of the pod"
		}
	case dialFailedPattern.MatchString(fault):
		text = "the pod can't be reached from its node: " + prefixPattern.ReplaceAllString(fault, "")
	case sandboxGonePattern.MatchString(fault):
		text = "the pod is gone: " + sandboxGonePattern.FindString(fault)
	default:
		return nil
	}
	return &fwd.UnreachedError{Reason: why, Err: errors.New(printable.Line(text, maxQuote))}
}

// summarize says what a kubelet or a runtime tells of a connection that broke off,
// without the paths and numbers that help nobody.
func summarize(fault string) string {
	switch {
	case strings.Contains(fault, "connection reset by peer"):
		return "the process in the pod reset the connection (connection reset by peer)"
	case strings.Contains(fault, "broken pipe"):
		return "the process in the pod has closed the connection (broken pipe)"
	}
	return printable.Line(prefixPattern.ReplaceAllString(fault, ""), maxQuote)
}
