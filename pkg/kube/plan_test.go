package kube

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/kubeshore/kubeshore/pkg/fwd"
)

var update = flag.Bool("update", false, "write what the tests get into their golden files")

// Each file of testdata/plan is a cluster's Services and EndpointSlices, and
// the plan that follows from them: what a user gets for what kubectl applies.
func TestPlan(t *testing.T) {
	files, err := filepath.Glob("testdata/plan/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			services, slices := objects(t, string(archive.Files[0].Data))
			snapshot := newSnapshot("ctx", services, slices)
			got := render(fwd.Plan(snapshot, fwd.Options{Context: "ctx", Namespace: "shop"}))
			if *update {
				archive.Files = append(archive.Files[:1], txtar.File{Name: "plan", Data: []byte(got)})
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := string(archive.Files[1].Data); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func objects(t *testing.T, text string) (services []*corev1.Service, slices []*discoveryv1.EndpointSlice) {
	t.Helper()
	for document := range strings.SplitSeq(text, "---\n") {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(document), &kind); err != nil {
			t.Fatal(err)
		}
		var err error
		switch kind.Kind {
		case "Service":
			services = append(services, &corev1.Service{})
			err = yaml.UnmarshalStrict([]byte(document), services[len(services)-1])
		case "EndpointSlice":
			slices = append(slices, &discoveryv1.EndpointSlice{})
			err = yaml.UnmarshalStrict([]byte(document), slices[len(slices)-1])
		default:
			t.Fatalf("what is a %q?", kind.Kind)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return services, slices
}

func render(hosts []fwd.Host) string {
	var b strings.Builder
	for _, h := range hosts {
		fmt.Fprintf(&b, "%v: %d of %d ready\n", h.ID, h.Ready, h.Pods)
		for _, name := range h.Names {
			fmt.Fprintf(&b, "  %s\n", name)
		}
		if h.Affinity > 0 {
			fmt.Fprintf(&b, "  affinity %v\n", h.Affinity)
		}
		for _, p := range h.Ports {
			fmt.Fprintf(&b, "  :%d", p.Number)
			for _, target := range p.Targets {
				fmt.Fprintf(&b, " %s:%d", target.Pod.Name, target.Port)
				switch {
				case target.Ready:
				case target.Serving:
					b.WriteString("(serving)")
				default:
					b.WriteString("(not ready)")
				}
			}
			b.WriteString("\n")
		}
		for _, problem := range h.Problems {
			fmt.Fprintf(&b, "  ! %s\n", problem)
		}
	}
	return b.String()
}
