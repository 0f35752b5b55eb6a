package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/kubeshore/kubeshore/internal/dnsname"
)

// hostileNames are not names of Services, nor of anything else in Kubernetes. Those
// that are valid in JSON reach the client as they are.
var hostileNames = []string{
	"../../c-2/api/v1/namespaces/x/pods/y", "%zz", "%2e%2e", "a/b", "..", ".", "", "Web", "web\n127.0.0.1 evil", "\x1b]0;x\a",
	"-web", "web-", "a_b", "a,kubernetes.io/service-name=b", strings.Repeat("a", dnsname.MaxLabel+1), "wéb",
}

// Objects with invalid names, or of other namespaces than the requested one, are
// ignored and reported in a printable line, whatever serves them.
func TestObjectsWithInvalidNamesAreIgnored(t *testing.T) {
	for _, hostile := range slices.Concat(hostileNames, []string{"in namespace"}) {
		t.Run(fmt.Sprintf("%.20q", hostile), func(t *testing.T) {
			services := corev1.ServiceList{ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: []corev1.Service{*newTestService("web", "1", ""), *newTestService(hostile, "1", "")}}
			services.Kind, services.APIVersion = "ServiceList", "v1"
			if hostile == "in namespace" {
				services.Items[1] = *newTestService("secret", "1", "")
				services.Items[1].Namespace = "other"
			}
			s, err := follow(t, serveLists(t, services), Follow{Context: "ctx", Namespaces: []string{"ns"}})
			if err != nil {
				t.Fatal(err)
			}
			snapshot := s.Snapshot()
			if len(snapshot.Services) != 1 || snapshot.Services[0].ID.Name != "web" {
				t.Errorf("got services %v, want web only", snapshot.Services)
			}
			problems := snapshot.Clusters[0].Problems
			if len(problems) != 1 || !strings.HasPrefix(problems[0], "context ctx: ignoring one of the services that the API server sent: ") ||
				strings.ContainsAny(problems[0], "\n\x1b\a") || len(problems[0]) > 500 {
				t.Errorf("got problems %q, want one printable line", problems)
			}
		})
	}
}

// serveLists starts an API server with one list of Services, and lists of
// everything else that are empty. It returns a function that loads its context.
func serveLists(t *testing.T, services corev1.ServiceList) func(context.Context, string) (*Cluster, error) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Query().Has("sendInitialEvents"):
			w.WriteHeader(http.StatusUnprocessableEntity)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
		case r.URL.Query().Has("watch"):
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case strings.HasSuffix(r.URL.Path, "/services"):
			_ = json.NewEncoder(w).Encode(services)
		default:
			fmt.Fprint(w, `{"kind":"EndpointSliceList","apiVersion":"discovery.k8s.io/v1","metadata":{"resourceVersion":"1"},"items":[]}`)
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	return func(_ context.Context, name string) (*Cluster, error) {
		return &Cluster{Context: name, Config: &rest.Config{Host: server.URL}}, nil
	}
}

// Names that a shell would complete are valid ones: a shell evaluates what it
// completes.
func TestQueriedNamesAreValid(t *testing.T) {
	services := corev1.ServiceList{Items: []corev1.Service{*newTestService("web", "1", "")}}
	for _, name := range append(slices.Clone(hostileNames), "$(reboot)", "`reboot`") {
		services.Items = append(services.Items, *newTestService(name, "1", ""))
	}
	services.Kind, services.APIVersion = "ServiceList", "v1"
	cluster, _ := serveLists(t, services)(t.Context(), "ctx")
	got, err := cluster.ServiceNames(t.Context(), []string{"ns"})
	if err != nil || len(got) != 1 || got[0].Name != "web" {
		t.Errorf("got services %v, error %v, want web only", got, err)
	}
}
