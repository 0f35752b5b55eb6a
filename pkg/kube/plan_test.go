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
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/kubeshore/kubeshore/internal/namepolicy"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

var update = flag.Bool("update", false, "update the golden files")

// Each archive in testdata/plan has the objects of one or more clusters, optionally
// the user's options, and the resulting plan.
func TestPlan(t *testing.T) {
	paths, err := filepath.Glob("testdata/plan/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			options := optionsFile{Contexts: []contextFile{{Context: "ctx", Namespace: "shop"}}}
			var snapshot plan.Snapshot
			var want string
			for _, file := range archive.Files {
				switch context, _ := strings.CutSuffix(file.Name, ".yaml"); file.Name {
				case "options.yaml":
					if err := yaml.UnmarshalStrict(file.Data, &options); err != nil {
						t.Fatal(err)
					}
				case "plan":
					want = string(file.Data)
				default:
					objects := parseObjects(t, string(file.Data))
					snapshot.Clusters = append(snapshot.Clusters, plan.Cluster{Context: context})
					snapshot.Services = append(snapshot.Services, newServices(context, objects)...)
					snapshot.Ingresses = append(snapshot.Ingresses, newIngresses(context, objects)...)
				}
			}
			got := render(plan.Plan(snapshot, options.options()))
			if *update {
				last := len(archive.Files) - 1
				archive.Files[last] = txtar.File{Name: "plan", Data: []byte(got)}
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// optionsFile is the form of plan.Options in the archives.
type optionsFile struct {
	Contexts []contextFile
	Mapping  map[uint16]uint16
	Domain   string
	Services map[string]plan.ServiceOptions // by name.namespace, in the first context
	Names    *namepolicy.Policy             // default: the user asked for shop, data and eu
	Enforced *namepolicy.Policy
	Ingress  []string
}

type contextFile struct {
	Context, Alias, Namespace string
	Include, Exclude          []string
	Controller                string // name.namespace
}

func (f optionsFile) options() plan.Options {
	o := plan.Options{
		Mapping: f.Mapping, Domain: f.Domain, Services: make(map[plan.ServiceID]plan.ServiceOptions), Enforced: f.Enforced, Ingress: f.Ingress,
		Names: namepolicy.Policy{Patterns: []string{"*.shop", "*.data", "*.eu"}},
	}
	if f.Names != nil {
		o.Names = *f.Names
	}
	id := func(contextName, text string) plan.ServiceID {
		name, namespace, _ := strings.Cut(text, ".")
		return plan.ServiceID{Context: contextName, Namespace: namespace, Name: name}
	}
	for _, c := range f.Contexts {
		options := plan.ContextOptions{Context: c.Context, Alias: c.Alias, Namespace: c.Namespace, Include: c.Include, Exclude: c.Exclude}
		if c.Controller != "" {
			options.IngressController = id(c.Context, c.Controller)
		}
		o.Contexts = append(o.Contexts, options)
	}
	for name, options := range f.Services {
		o.Services[id(f.Contexts[0].Context, name)] = options
	}
	return o
}

func parseObjects(t *testing.T, text string) (objects clusterObjects) {
	t.Helper()
	var pods []*corev1.Pod
	for document := range strings.SplitSeq(text, "---\n") {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(document), &kind); err != nil {
			t.Fatal(err)
		}
		var err error
		switch kind.Kind {
		case "Service":
			var service corev1.Service
			err = yaml.UnmarshalStrict([]byte(document), &service)
			objects.services = append(objects.services, trimService(&service))
		case "EndpointSlice":
			var slice discoveryv1.EndpointSlice
			err = yaml.UnmarshalStrict([]byte(document), &slice)
			objects.endpointSlices = append(objects.endpointSlices, trimEndpointSlice(&slice))
		case "Pod":
			var pod corev1.Pod
			err = yaml.UnmarshalStrict([]byte(document), &pod)
			pods = append(pods, trimPod(&pod))
		case "Ingress":
			var ingress networkingv1.Ingress
			err = yaml.UnmarshalStrict([]byte(document), &ingress)
			objects.ingresses = append(objects.ingresses, trimIngress(&ingress))
		default:
			t.Fatalf("unknown kind %q", kind.Kind)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	objects.endpointSlices = withTargetRefs(objects.endpointSlices, pods)
	return objects
}

func render(d plan.Desired) string {
	var b strings.Builder
	for _, note := range d.Notes {
		fmt.Fprintf(&b, "# %s\n", note)
	}
	for _, c := range d.Clusters {
		for _, problem := range c.Problems {
			fmt.Fprintf(&b, "! %s\n", problem)
		}
	}
	for _, h := range d.Hosts {
		fmt.Fprintf(&b, "%v: %d of %d ready\n", h.ID, h.Ready, h.Pods)
		if h.Implicit {
			b.WriteString("  implicit\n")
		}
		if h.Local {
			b.WriteString("  runs on this machine\n")
		}
		if h.AliasOf != (plan.HostID{}) {
			fmt.Fprintf(&b, "  alias of %v\n", h.AliasOf)
		}
		if h.Address.IsValid() {
			fmt.Fprintf(&b, "  address %v\n", h.Address)
		}
		for _, name := range h.Names {
			fmt.Fprintf(&b, "  %s\n", name)
		}
		if h.AffinityTimeout > 0 {
			fmt.Fprintf(&b, "  affinity %v\n", h.AffinityTimeout)
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
		for _, limit := range h.Limits {
			fmt.Fprintf(&b, "  - %s\n", limit)
		}
		for _, problem := range h.Problems {
			fmt.Fprintf(&b, "  ! %s\n", problem)
		}
	}
	return b.String()
}
