package tunnel

import (
	"errors"
	"regexp"
	"strings"

	"github.com/kubeshore/kubeshore/internal/printable"
	"github.com/kubeshore/kubeshore/pkg/fwd"
)

// Error texts of kubelets and container runtimes. TestClassify lists where each
// of them comes from.
var (
	// midwayPattern matches errors after bytes may have been exchanged.
	midwayPattern = regexp.MustCompile(`\b(read|write) tcp|connection reset|[Bb]roken pipe`)
	// nodeUnreachablePattern matches the API server's error for an unreachable
	// node.
	nodeUnreachablePattern = regexp.MustCompile(`error dialing backend: .*`)
	// dialFailedPattern matches a failed connection within the pod.
	dialFailedPattern = regexp.MustCompile(`\bdial tcp|failed to connect to localhost:|socat\[\d+\] E connect\(`)
	// refusedPattern matches a connection refused by the pod.
	refusedPattern = regexp.MustCompile(`[Cc]onnection refused`)
	// sandboxGonePattern matches errors about a missing or stopped pod.
	sandboxGonePattern = regexp.MustCompile(`(failed to find sandbox|[Ss]andbox .*is not running|network namespace for sandbox .* is closed|` +
		`network namespace path of sandbox .* is empty|could not find sandbox|PodSandbox with ID starting with .* not found|` +
		`pod not found|container not found|container not running|does not have a host assigned|failed to Statfs|` +
		`unable to do port forwarding: ).*`)
	// portPattern matches the port.
	portPattern = regexp.MustCompile(`(?:error forwarding port |localhost:|127\.0\.0\.1:)(\d+)`)
	// prefixPattern matches the text before the reason.
	prefixPattern = regexp.MustCompile(`^.*(?:error forwarding port \d+ to pod [^:]*: |network namespace "[^"]*": )`)
)

// classify returns the error for an error stream's text. It returns nil unless
// the text proves that no connection was made within the pod.
func classify(errorText string) *fwd.UnreachedError {
	why := fwd.PodGone
	var text string
	switch {
	case midwayPattern.MatchString(errorText):
		return nil
	case nodeUnreachablePattern.MatchString(errorText):
		why, text = fwd.NodeUnreachable, "the API server cannot reach the pod's node: "+nodeUnreachablePattern.FindString(errorText)
	case dialFailedPattern.MatchString(errorText) && refusedPattern.MatchString(errorText):
		why, text = fwd.PortClosed, "nothing listens on that port of the pod"
		if found := portPattern.FindStringSubmatch(errorText); found != nil {
			text = "nothing listens on port " + found[1] + " of the pod"
		}
	case dialFailedPattern.MatchString(errorText):
		text = "the pod's node cannot reach the pod: " + prefixPattern.ReplaceAllString(errorText, "")
	case sandboxGonePattern.MatchString(errorText):
		text = "the pod is gone: " + sandboxGonePattern.FindString(errorText)
	default:
		return nil
	}
	return &fwd.UnreachedError{Reason: why, Err: errors.New(printable.Line(text, maxQuote))}
}

// summarize shortens a kubelet's or runtime's error about a broken connection.
func summarize(errorText string) string {
	switch {
	case strings.Contains(errorText, "connection reset by peer"):
		return "the process in the pod reset the connection (connection reset by peer)"
	case strings.Contains(errorText, "broken pipe"):
		return "the process in the pod closed the connection (broken pipe)"
	}
	return printable.Line(prefixPattern.ReplaceAllString(errorText, ""), maxQuote)
}
