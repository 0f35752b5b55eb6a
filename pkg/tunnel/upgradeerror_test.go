package tunnel

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// So does that of a kubelet that forbids port-forward (kubernetes,
// pkg/kubelet/server/server.go).
func TestKubeletWithoutDebuggingHandlers(t *testing.T) {
	r := upgradeResponse{code: http.StatusMethodNotAllowed, status: "405 Method Not Allowed", mediaType: "text/plain", body: []byte("Debug endpoints are disabled.\n")}
	got := r.asError(plan.PodRef{Context: "c", Namespace: "ns", Name: "web-0"}, SPDY)
	if got.why != fwd.Denied || !got.final || !strings.HasPrefix(got.text, "Debug endpoints are disabled. (") {
		t.Errorf("got %+v", got)
	}
}

// The sentence of a policy comes first, and whole. The other transport isn't tried.
func TestPolicySentenceComesFirst(t *testing.T) {
	sentence := "port-forward to production needs a ticket: " + strings.Repeat("ask the platform team, ", 20) + "thank you"
	for name, c := range map[string]struct {
		code    int
		by      string
		denied  string
		content string
	}{
		"policy":           {http.StatusUnprocessableEntity, `pods "web-0" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request`, ": ", sentence},
		"policy, 403":      {http.StatusForbidden, `pods "web-0" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request`, ": ", sentence},
		"webhook":          {http.StatusForbidden, `admission webhook "w.example.com" denied the request`, ": ", sentence},
		"several lines":    {http.StatusForbidden, `admission webhook "w.example.com" denied the request`, ": ", "first\nsecond"},
		"escape sequences": {http.StatusForbidden, `admission webhook "w.example.com" denied the request`, ": ", "\x1b[31mred"},
	} {
		t.Run(name, func(t *testing.T) {
			body, err := json.Marshal(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status"}, Message: c.by + c.denied + c.content})
			if err != nil {
				t.Fatal(err)
			}
			r := upgradeResponse{code: c.code, status: http.StatusText(c.code), mediaType: "application/json", body: body}
			got := r.asError(plan.PodRef{Context: "c", Namespace: "ns", Name: "web-0"}, SPDY)
			if got.why != fwd.Denied || !got.final {
				t.Errorf("got reason %v, final %v, want %v, true", got.why, got.final, fwd.Denied)
			}
			if strings.ContainsAny(got.text, "\n\x1b") || !strings.HasSuffix(got.text, " ("+c.by+")") {
				t.Errorf("got text %q, want one line that ends with who denied it", got.text)
			}
			if c.content == sentence && !strings.HasPrefix(got.text, sentence) {
				t.Errorf("got text %q, want the sentence first", got.text)
			}
		})
	}
}
