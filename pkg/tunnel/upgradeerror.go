package tunnel

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubeshore/kubeshore/internal/printable"
	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// upgradeError is why an upgrade didn't come about.
type upgradeError struct {
	with  Transport
	why   fwd.Reason
	final bool   // the other transport would fare no better
	verb  string // the one that the user may not use on pods/portforward; often empty
	text  string // all of it, in one line
}

// failure is the refusal of an attempt that got no answer.
func (a *upgrade) failure(err error) *upgradeError {
	r := &upgradeError{with: a.with, why: fwd.ClusterUnreachable}
	var denied *fwd.UnreachedError
	server := a.cluster.baseURL.Redacted()
	switch {
	case errors.As(err, &denied): // by the gate, in one line
		r.why, r.final, r.text = denied.Reason, true, denied.Error()
	case a.requestSent.Load() && errors.Is(err, errUpgradeTimeout): // it does to others: this pod's node doesn't
		r.why, r.text = fwd.PodGone, fmt.Sprintf("the API server %s doesn't answer the upgrade: %s", server, printable.Line(err.Error(), maxQuote))
	case a.requestSent.Load():
		r.text = fmt.Sprintf("the API server %s, or what stands before it, doesn't answer the upgrade: %s", server, printable.Line(err.Error(), maxQuote))
	default:
		r.final, r.text = true, fmt.Sprintf("the API server %s can't be reached: %s", server, printable.Line(err.Error(), maxQuote))
	}
	return r
}

// deniedVerbPattern is how an API server says that a verb may not be used (apiserver,
// endpoints/handlers/responsewriters/errors.go); where the answer was cut
// short it is found within the JSON too.
var deniedVerbPattern = regexp.MustCompile(`cannot (\w+) resource \\?"pods/portforward`)

// deniedCreatePattern is how one from 1.35 on says, to a WebSocket, that create may
// not be used (kubernetes, registry/core/pod/rest/authorize.go): it gives the
// authorizer's reason, and nothing if there is none.
var deniedCreatePattern = regexp.MustCompile(`^pods "[^"]*" is forbidden:\s*(RBAC: .*)?$`)

// response is what a server says to a request for an upgrade.
type response struct {
	code      int
	status    string // the code and its words
	mediaType string // of the body: a media type
	body      []byte
}

// message returns the answer's words, and whether they are an API server's.
func (a response) message() (text string, isStatus bool) {
	var status metav1.Status
	if json.Unmarshal(a.body, &status) == nil && status.Kind == "Status" && status.Message != "" {
		return status.Message, true
	}
	return string(a.body), false
}

// upgradeError is what an answer other than the upgrade means.
func (a response) upgradeError(pod plan.PodRef, with Transport) *upgradeError {
	said, isStatus := a.message()
	r := &upgradeError{with: with, why: fwd.Denied}
	r.text = fmt.Sprintf("the API server, or what stands before it, answers the upgrade with %s (%s)", printable.Line(a.status, maxQuote), printable.Line(a.mediaType, maxQuote))
	switch gone := classify(said); {
	case a.code == http.StatusUnauthorized:
		r.final, r.text = true, "the API server does not accept the credentials of context "+pod.Context
	case a.code == http.StatusForbidden && deniedVerbPattern.MatchString(said):
		r.verb = deniedVerbPattern.FindStringSubmatch(said)[1]
	case a.code == http.StatusForbidden && isStatus && deniedCreatePattern.MatchString(said):
		r.verb = "create"
	case a.mediaType == "text/html":
	case a.code == http.StatusNotFound && isStatus:
		r.why, r.final, r.text = fwd.PodGone, true, printable.Line(said, maxQuote)
	case gone != nil:
		r.why, r.final, r.text = gone.Reason, true, gone.Error()
	case said != "":
		r.text += ": " + printable.Line(said, maxQuote)
	}
	switch {
	case r.why != fwd.Denied:
	case runtimeErrorPattern.MatchString(said):
		r.why = fwd.PodGone
	case isTransient(a.code, a.mediaType):
		r.why = fwd.ClusterUnreachable
	}
	if r.verb != "" {
		r.text = fmt.Sprintf("may not %s pods/portforward in namespace %s of context %s", r.verb, pod.Namespace, pod.Context)
	}
	return r
}

// isTransient tells whether an answer is a server's that will do later what it
// can't do now.
func isTransient(code int, kind string) bool {
	switch code {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return code >= http.StatusInternalServerError && kind != "text/html"
}

// runtimeErrorPattern is how a kubelet says that the pod's container runtime doesn't
// answer, or has a fault (gRPC's status).
var runtimeErrorPattern = regexp.MustCompile(`\brpc error: code = `)

// combine is the error of all the transports that were tried.
func combine(refusals []*upgradeError) error {
	last := refusals[len(refusals)-1]
	why, text := last.why, last.text
	if first := refusals[0]; !last.final && first.text != last.text {
		switch {
		case first.verb == "create" && last.verb != "": // the other one's verb alone wouldn't do everywhere
			text = first.text
		case last.verb == "create" && first.verb != "":
		default:
			text = fmt.Sprintf("%v: %s; %v: %s", first.with, first.text, last.with, last.text)
		}
		why = max(first.why, last.why) // a denial is an answer, silence is none
	}
	return &fwd.UnreachedError{Reason: why, Err: errors.New(text)}
}

// maxQuote bounds what is quoted of another machine's words, in runes.
const maxQuote = 200
