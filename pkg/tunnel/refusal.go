package tunnel

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"unicode"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// refusal is why an upgrade didn't come about.
type refusal struct {
	with  Transport
	why   fwd.Reason
	final bool   // the other transport would fare no better
	verb  string // the one that the user may not use on pods/portforward; often empty
	text  string // all of it, in one line
}

// failed is the refusal of an attempt that got no answer.
func (a *attempt) failed(err error) *refusal {
	r := &refusal{with: a.with, why: fwd.ClusterUnreachable}
	var denied *fwd.UnreachedError
	server := a.cluster.base.Redacted()
	switch {
	case errors.As(err, &denied): // by the gate, in one line
		r.why, r.final, r.text = denied.Reason, true, denied.Error()
	case a.sent.Load() && errors.Is(err, errNoAnswer): // it does to others: this pod's node doesn't
		r.why, r.text = fwd.PodGone, fmt.Sprintf("the API server %s doesn't answer the upgrade: %s", server, line(err.Error()))
	case a.sent.Load():
		r.text = fmt.Sprintf("the API server %s, or what stands before it, doesn't answer the upgrade: %s", server, line(err.Error()))
	default:
		r.final, r.text = true, fmt.Sprintf("the API server %s can't be reached: %s", server, line(err.Error()))
	}
	return r
}

// missing is how an API server says that a verb may not be used (apiserver,
// endpoints/handlers/responsewriters/errors.go); where the answer was cut
// short it is found within the JSON too.
var missing = regexp.MustCompile(`cannot (\w+) resource \\?"pods/portforward`)

// missingCreate is how one from 1.35 on says, to a WebSocket, that create may
// not be used (kubernetes, registry/core/pod/rest/authorize.go): it gives the
// authorizer's reason, and nothing if there is none.
var missingCreate = regexp.MustCompile(`^pods "[^"]*" is forbidden:\s*(RBAC: .*)?$`)

// answer is what a server says to a request for an upgrade.
type answer struct {
	code   int
	status string // the code and its words
	kind   string // of the body: a media type
	body   []byte
}

// message returns the answer's words, and whether they are an API server's.
func (a answer) message() (text string, isStatus bool) {
	var status metav1.Status
	if json.Unmarshal(a.body, &status) == nil && status.Kind == "Status" && status.Message != "" {
		return status.Message, true
	}
	return string(a.body), false
}

// refusal is what an answer other than the upgrade means.
func (a answer) refusal(pod plan.PodRef, with Transport) *refusal {
	said, isStatus := a.message()
	r := &refusal{with: with, why: fwd.Denied}
	r.text = fmt.Sprintf("the API server, or what stands before it, answers the upgrade with %s (%s)", line(a.status), line(a.kind))
	switch gone := unreached(said); {
	case a.code == http.StatusUnauthorized:
		r.final, r.text = true, "the API server does not accept the credentials of context "+pod.Context
	case a.code == http.StatusForbidden && missing.MatchString(said):
		r.verb = missing.FindStringSubmatch(said)[1]
	case a.code == http.StatusForbidden && isStatus && missingCreate.MatchString(said):
		r.verb = "create"
	case a.kind == "text/html":
	case a.code == http.StatusNotFound && isStatus:
		r.why, r.final, r.text = fwd.PodGone, true, line(said)
	case gone != nil:
		r.why, r.final, r.text = gone.Reason, true, gone.Error()
	case said != "":
		r.text += ": " + line(said)
	}
	switch {
	case r.why != fwd.Denied:
	case runtimeAway.MatchString(said):
		r.why = fwd.PodGone
	case isPassing(a.code, a.kind):
		r.why = fwd.ClusterUnreachable
	}
	if r.verb != "" {
		r.text = fmt.Sprintf("may not %s pods/portforward in namespace %s of context %s", r.verb, pod.Namespace, pod.Context)
	}
	return r
}

// isPassing tells whether an answer is a server's that will do later what it
// can't do now.
func isPassing(code int, kind string) bool {
	switch code {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return code >= http.StatusInternalServerError && kind != "text/html"
}

// runtimeAway is how a kubelet says that the pod's container runtime doesn't
// answer, or has a fault (gRPC's status).
var runtimeAway = regexp.MustCompile(`\brpc error: code = `)

// combined is the error of all the transports that were tried.
func combined(refusals []*refusal) error {
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

// maxText bounds what is quoted of another machine's words, in runes.
const maxText = 200

// line makes one short line of another machine's words.
func line(text string) string {
	printable := func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}
	runes := []rune(strings.Join(strings.Fields(strings.Map(printable, text)), " "))
	if len(runes) > maxText {
		return string(runes[:maxText]) + "…"
	}
	return string(runes)
}
