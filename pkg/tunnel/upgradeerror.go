package tunnel

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubeshore/kubeshore/internal/printable"
	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// upgradeError is the reason why an upgrade failed.
type upgradeError struct {
	with  Transport
	why   fwd.Reason
	final bool   // the other transport would fail, too
	verb  string // the verb on pods/portforward that the user isn't allowed; often empty
	text  string // the error message, one line
}

// failure returns the upgradeError of an upgrade without a response.
func (u *upgrade) failure(err error) *upgradeError {
	e := &upgradeError{with: u.with, why: fwd.ClusterUnreachable}
	var denied *fwd.UnreachedError
	var invalid invalidPodError
	server, reason := u.cluster.baseURL.Redacted(), printable.Line(err.Error(), maxQuote)
	switch {
	case errors.As(err, &denied): // by the credential gate, one line
		e.why, e.final, e.text = denied.Reason, true, denied.Error()
	case errors.As(err, &invalid):
		e.why, e.final, e.text = fwd.PodGone, true, reason
	case u.requestSent.Load() && errors.Is(err, errUpgradeTimeout): // the API server works, but can't reach the pod's node
		e.why, e.text = fwd.NodeUnreachable, fmt.Sprintf("the API server %s didn't respond to the upgrade request: %s", server, reason)
	case u.requestSent.Load():
		e.text = fmt.Sprintf("the API server %s, or a proxy in front of it, didn't respond to the upgrade request: %s", server, reason)
	default:
		e.final, e.text = true, fmt.Sprintf("cannot reach the API server %s: %s", server, reason)
	}
	return e
}

// deniedVerbPattern matches an API server's message that a verb isn't allowed
// (apiserver, endpoints/handlers/responsewriters/errors.go), also within the JSON
// of a truncated response.
var deniedVerbPattern = regexp.MustCompile(`cannot (\w+) resource \\?"pods/portforward`)

// deniedCreatePattern matches the message of an API server since 1.35 to a
// WebSocket client that isn't allowed to create (kubernetes,
// registry/core/pod/rest/authorize.go): the authorizer's reason, which may be
// empty.
var deniedCreatePattern = regexp.MustCompile(`^pods "[^"]*" is forbidden:\s*(RBAC: .*)?$`)

// policyPattern matches the message of a ValidatingAdmissionPolicy or an admission
// webhook that denies a request (apiserver, admission/plugin/policy/validating and
// admission/plugin/webhook/errors): who denied it, and the policy's own sentence.
var policyPattern = regexp.MustCompile(`(?s)^(.*\bdenied (?:the )?request): (.+)$`)

// handlersDisabled is the response of a kubelet with enableDebuggingHandlers: false
// (kubelet, server/server.go), which the API server passes on.
const handlersDisabled = "Debug endpoints are disabled."

// runtimeErrorPattern matches a gRPC status: the kubelet reports that the pod's
// container runtime doesn't respond or failed.
var runtimeErrorPattern = regexp.MustCompile(`\brpc error: code = `)

// upgradeResponse is the response to an upgrade request.
type upgradeResponse struct {
	code      int
	status    string // the code and its text
	mediaType string
	body      []byte
}

// message returns the message in the response, and whether it comes from an API
// server.
func (r upgradeResponse) message() (text string, isStatus bool) {
	var body metav1.Status
	if json.Unmarshal(r.body, &body) == nil && body.Kind == "Status" && body.Message != "" {
		return body.Message, true
	}
	return string(r.body), false
}

// asError returns the upgradeError for a response other than 101.
func (r upgradeResponse) asError(pod plan.PodRef, with Transport) *upgradeError {
	message, isStatus := r.message()
	e := &upgradeError{with: with, why: fwd.Denied}
	e.text = fmt.Sprintf("the API server, or a proxy in front of it, responded to the upgrade request with %s (%s)",
		printable.Line(r.status, maxQuote), printable.Line(r.mediaType, maxQuote))
	switch gone := classify(message); {
	case r.code == http.StatusUnauthorized:
		e.final, e.text = true, "the API server rejected the credentials of context "+pod.Context
	case r.code == http.StatusForbidden && deniedVerbPattern.MatchString(message):
		e.verb = deniedVerbPattern.FindStringSubmatch(message)[1]
	case r.code == http.StatusForbidden && isStatus && deniedCreatePattern.MatchString(message):
		e.verb = "create"
	case isStatus && policyPattern.MatchString(message):
		policy := policyPattern.FindStringSubmatch(message)
		e.final, e.text = true, printable.Line(fmt.Sprintf("%s (%s)", policy[2], policy[1]), maxPolicyQuote)
	case r.code == http.StatusMethodNotAllowed && strings.HasPrefix(message, handlersDisabled):
		e.final, e.text = true, handlersDisabled+" (the configuration of the kubelet of the pod's node, enableDebuggingHandlers, forbids port-forward)"
	case r.mediaType == "text/html":
	case r.code == http.StatusNotFound && isStatus:
		e.why, e.final, e.text = fwd.PodGone, true, printable.Line(message, maxQuote)
	case gone != nil:
		e.why, e.final, e.text = gone.Reason, true, gone.Error()
	case message != "":
		e.text += ": " + printable.Line(message, maxQuote)
	}
	switch {
	case e.why != fwd.Denied:
	case runtimeErrorPattern.MatchString(message):
		e.why = fwd.PodGone
	case isTransient(r.code, r.mediaType):
		e.why = fwd.ClusterUnreachable
	}
	if e.verb != "" {
		e.text = fmt.Sprintf("not allowed to %s pods/portforward in namespace %s (context %s)", e.verb, pod.Namespace, pod.Context)
	}
	return e
}

// isTransient reports whether a retry of the request may succeed.
func isTransient(code int, mediaType string) bool {
	switch code {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return code >= http.StatusInternalServerError && mediaType != "text/html"
}

// combine returns one error for all transports that were tried.
func combine(errs []*upgradeError) error {
	last := errs[len(errs)-1]
	why, text := last.why, last.text
	if first := errs[0]; !last.final && first.text != last.text {
		switch {
		case first.verb == "create" && last.verb != "": // report create: the other verb isn't sufficient on all servers
			text = first.text
		case last.verb == "create" && first.verb != "":
		default:
			text = fmt.Sprintf("%v: %s; %v: %s", first.with, first.text, last.with, last.text)
		}
		why = max(first.why, last.why) // prefers Denied, which is a response, to ClusterUnreachable
	}
	return &fwd.UnreachedError{Reason: why, Err: errors.New(text)}
}

// maxQuote bounds the text quoted from other programs, in runes.
const maxQuote = 200

// maxPolicyQuote bounds the message of a policy, in runes.
const maxPolicyQuote = 1000
