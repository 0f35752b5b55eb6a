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
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// serveServices starts an API server with Services. Those in the namespace denied
// can't be read. It returns a function that loads its context.
func serveServices(t *testing.T, services []corev1.Service) func(context.Context, string) (*Cluster, error) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		parts := strings.Split(r.URL.Path, "/")
		namespace := parts[slices.Index(parts, "namespaces")+1]
		name := strings.TrimPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")
		switch {
		case namespace == "denied":
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403}`)
		case r.URL.Query().Has("sendInitialEvents"):
			w.WriteHeader(http.StatusUnprocessableEntity)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
		case r.URL.Query().Has("watch"):
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case strings.HasSuffix(r.URL.Path, "/services"):
			list := corev1.ServiceList{TypeMeta: metav1.TypeMeta{Kind: "ServiceList", APIVersion: "v1"}, ListMeta: metav1.ListMeta{ResourceVersion: "1"}}
			for _, s := range services {
				if s.Namespace == namespace && (name == "" || s.Name == name) {
					list.Items = append(list.Items, s)
				}
			}
			_ = json.NewEncoder(w).Encode(list)
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

// external returns an ExternalName Service, or a plain one if name is empty.
func external(namespace, service, name string) corev1.Service {
	s := *newTestService(service, "10.0.0.1", "")
	s.Namespace = namespace
	if name != "" {
		s.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: name}
	}
	return s
}

// The Services that ExternalName Services refer to are read in any namespace,
// also through others, as far as the user may read them. What can't be read is no
// problem of the context: the user didn't ask for it.
func TestExternalNamesAreFollowed(t *testing.T) {
	many := make([]corev1.Service, 0, 2*maxFollowed+4)
	for i := range maxFollowed + 2 {
		many = append(many, external("shop", fmt.Sprintf("to-%d", i), fmt.Sprintf("db.ns-%03d.svc.cluster.local", i)), external(fmt.Sprintf("ns-%03d", i), "db", ""))
	}
	for name, c := range map[string]struct {
		services []corev1.Service
		want     []string // the Services that are read
		problem  string
	}{
		"another namespace": {
			[]corev1.Service{external("shop", "db", "db.shared.svc.cluster.local."), external("shared", "db", ""), external("shared", "other", "")},
			[]string{"db.shared", "db.shop"},
			"",
		},
		"a chain": {
			[]corev1.Service{external("shop", "db", "db.a.svc.cluster.local"), external("a", "db", "real.b.svc.cluster.local"), external("b", "real", "")},
			[]string{"db.a", "db.shop", "real.b"},
			"",
		},
		"a cycle": {
			[]corev1.Service{external("shop", "db", "db.a.svc.cluster.local"), external("a", "db", "db.shop.svc.cluster.local")},
			[]string{"db.a", "db.shop"},
			"",
		},
		"a pod": {
			[]corev1.Service{external("shop", "db", "db-0.db.shared.svc.cluster.local"), external("shared", "db", "")},
			[]string{"db.shared", "db.shop"},
			"",
		},
		"not allowed":         {[]corev1.Service{external("shop", "db", "db.denied.svc.cluster.local")}, []string{"db.shop"}, ""},
		"no such service":     {[]corev1.Service{external("shop", "db", "db.none.svc.cluster.local")}, []string{"db.shop"}, ""},
		"outside the cluster": {[]corev1.Service{external("shop", "db", "db.example.com")}, []string{"db.shop"}, ""},
		"not a name":          {[]corev1.Service{external("shop", "db", "../x.a%2Fb.svc.cluster.local")}, []string{"db.shop"}, ""},
		"too many":            {many, nil, "refer to 2 more services in other namespaces than the 64 that are followed; add their namespaces with -n (context ctx)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := follow(t, serveServices(t, c.services), Follow{Context: "ctx", Namespaces: []string{"shop"}})
			if err != nil {
				t.Fatal(err)
			}
			for deadline := time.After(20 * time.Second); ; {
				snapshot := s.Snapshot()
				problems := strings.Join(snapshot.Clusters[0].Problems, "; ")
				got := make([]string, 0, len(snapshot.Services))
				for _, svc := range snapshot.Services {
					got = append(got, svc.ID.String())
				}
				slices.Sort(got)
				wantCount := len(c.want) == 0 && len(got) == 2*maxFollowed+2
				if (wantCount || slices.Equal(got, c.want)) && strings.Contains(problems, c.problem) && (c.problem != "" || problems == "") {
					return
				}
				select {
				case <-s.Changed():
				case <-deadline:
					t.Fatalf("got services %q, problems %q, want %q, %q", got, problems, c.want, c.problem)
				}
			}
		})
	}
}
