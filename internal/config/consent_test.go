package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"

	"github.com/kubeshore/kubeshore/internal/project"
	"github.com/kubeshore/kubeshore/pkg/credential"
	"github.com/kubeshore/kubeshore/pkg/kube"
)

// clusterOf finds the contexts of a kubeconfig whose current context is dev.
func clusterOf(name string) (*kube.Cluster, error) {
	namespaces := map[string]string{"dev": "orders", "prod": "bank"}
	name = cmp.Or(name, "dev")
	namespace, ok := namespaces[name]
	if !ok {
		return nil, fmt.Errorf("no context %s", name)
	}
	return &kube.Cluster{Context: name, Namespace: namespace}, nil
}

// What only the user may decide needs a confirmation, unless the command line decides it.
func TestDecisions(t *testing.T) {
	for text, want := range map[string][]string{
		"namespaces: orders\ninclude: web\nports: {80: 8080}\nservices: {web.orders: {local: true}, db.orders: {address: 127.64.0.1}}": nil,
		"contexts: [{name: dev}]":                           nil,
		"contexts: [{name: dev, alias: com}]":               nil, // the first context's names have no alias
		"contexts: [{name: dev}, {name: prod, alias: com}]": {"forward from context prod", "add names that end with .com"},
		"contexts: [{name: prod}, {name: dev}]":             {"forward from context prod", "add names that end with .bank", "add names that end with .dev"},
		"contexts: [{name: gone, namespaces: orders}]":      {"forward from context gone"},
		"domain: com": {"add names that end with .com"},
		"services: {web.orders: {names: [a.example.com, b]}}":                                 {"add the name a.example.com to service web.orders", "add the name b to service web.orders"},
		"services: {web.orders: {names: x.y.svc.cluster.local}}":                              nil,
		"services: {web.orders: {names: svc.cluster.local}}":                                  {"add the name svc.cluster.local to service web.orders"},
		"services: {web.orders: {names: web.svc}}":                                            {"add the name web.svc to service web.orders"},
		"namespaces: [orders, dev]":                                                           {"add names that end with .dev"},
		"contexts: [{name: dev, namespaces: dev}]":                                            {"add names that end with .dev"},
		"contexts: [{name: dev, ingressController: a.b}]":                                     nil, // unused without ingress
		"contexts: [{name: dev, include: a, ingressController: b.c}, {name: dev2, alias: x}]": {"forward from context dev2", "add names that end with .x"},
		"contexts: [{name: dev, include: a, ingressController: b.com}]":                       {"add names that end with .com"},
		"ingress: '*.test'":                                               {"add hosts of Ingresses that match *.test"},
		"publicNames: ['*.dev', '!vpn.*']":                                {"add names that end with .dev"},
		"publicNames: ['*', api.example.*]":                               {"add names that match *", "add names that match api.example.*"},
		"services: {github.com: {local: true}}":                           {"add the name github.com"},
		"services: {web.shop: {ports: {80: 8080}}}":                       {"add the name web.shop"},
		"services: {github.com.dev: {local: true}}":                       {"add the name github.com"}, // dev is the first context's alias
		"include: [github.com]":                                           {"add names that end with .com"},
		"namespaces: ['*']\ninclude: ['*.com']":                           {"add names that end with .com"},
		"contexts: [{name: dev, include: ['git*.com', api.internal]}]":    {"add names that end with .com", "add names that end with .internal"},
		"namespaces: ['*']\nservices: {a.b: {local: true}}\nexclude: [x]": nil,
	} {
		file := loadFile(t, text)
		if got := decisions(new(Spec), file, clusterOf); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
		flags := &Spec{Contexts: []string{"prod"}, Domain: "test", Namespaces: []string{"com"}, Include: []string{"x"}}
		if got := decisions(flags, file, clusterOf); slices.Contains(got, "add names that end with .com") {
			t.Errorf("%s with flags: got %q", text, got)
		}
	}
}

// A file without decisions never changes what the keeper permits: each public name needs
// the user, whatever field of the file adds it.
func TestEachPublicNameIsDecided(t *testing.T) {
	names := func(file project.File) func(name string) bool {
		resolved, err := resolve(new(Spec), file, clusterOf)
		if err != nil {
			t.Fatal(err)
		}
		w := new(Watcher)
		w.resolved.Store(&resolved)
		policy := w.KeeperNames()
		return func(name string) bool { return policy.Check(name) == nil }
	}
	before := names(project.File{})
	for _, text := range []string{
		"namespaces: [%[2]s]", "include: [%[1]s.%[2]s]", "include: ['*.%[2]s']", "domain: %[2]s", "ingress: ['*.%[2]s']", "publicNames: [%[1]s.%[2]s]",
		"services: {%[1]s.%[2]s: {local: true}}", "services: {web.orders: {names: [%[1]s.%[2]s]}}",
		"contexts: [{name: dev, namespaces: [%[2]s]}]", "contexts: [{name: dev, include: [%[1]s.%[2]s]}]", "contexts: [{name: dev, include: a, ingressController: %[1]s.%[2]s}]",
		"contexts: [{name: dev}, {name: prod, alias: %[2]s}]", "contexts: [{name: dev}, {name: prod}]\nservices: {%[1]s.%[2]s.dev: {local: true}}",
	} {
		for _, domain := range []string{"com", "app", "internal", "bank", "xn--p1ai"} {
			file := loadFile(t, fmt.Sprintf(text, "github", domain))
			name := "github." + domain
			if before(name) || !names(file)(name) {
				t.Errorf("%s: permitted without the file: %t, with it: %t", fmt.Sprintf(text, "github", domain), before(name), names(file)(name))
			}
			if got := decisions(new(Spec), file, clusterOf); !strings.Contains(strings.Join(got, "\n"), domain) {
				t.Errorf("%s: got decisions %q, want one about .%s", fmt.Sprintf(text, "github", domain), got, domain)
			}
		}
	}
}

// loadFile returns the project file with that content.
func loadFile(t *testing.T, text string) project.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), project.Name)
	writeFile(t, path, text)
	file, err := project.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// A project file with a decision is used once it is confirmed, and until it changes.
// After a change during a run the previous settings stay in force.
func TestProjectFileNeedsConfirmation(t *testing.T) {
	w, _ := watcherIn(t, "namespaces: orders")
	w.allowed = project.Allowed(filepath.Join(t.TempDir(), "allowed"))
	writeFile(t, project.Name, "contexts: [{name: prod}]\ndomain: test")
	w.reread(t.Context())
	if problems := w.Problems(); len(problems) != 1 || !strings.Contains(problems[0], "needs a confirmation to forward from context prod, add names that end with .test; read the file, then run kubeshore allow /") {
		t.Errorf("problems: got %q", problems)
	}
	if got := w.Resolved().Follow[0].Namespaces; !slices.Equal(got, []string{"orders"}) || w.PlanOptions().Domain != "" {
		t.Errorf("unconfirmed: got namespaces %q, domain %q, want the previous settings", got, w.PlanOptions().Domain)
	}
	writeFile(t, project.Name, "domain: test")
	confirm := func() {
		t.Helper()
		unconfirmed := new(UnconfirmedError)
		if err := w.read(t.Context()); !errors.As(err, &unconfirmed) {
			t.Fatalf("got %v, want an UnconfirmedError", err)
		}
		if err := unconfirmed.Allow(); err != nil {
			t.Fatal(err)
		}
	}
	confirm()
	if w.reread(t.Context()); w.PlanOptions().Domain != "test" || len(w.Problems()) != 0 {
		t.Errorf("confirmed: got domain %q, problems %q", w.PlanOptions().Domain, w.Problems())
	}
	writeFile(t, project.Name, "domain: test # changed")
	confirm()
}

// Without a usable working directory there is no project file, and no error.
func TestWorkingDirectoryIsGone(t *testing.T) {
	kubeconfig := filepath.Join(t.TempDir(), "config")
	writeFile(t, kubeconfig, oneContext)
	log, lines := test.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	gone := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(gone, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(gone)
	if err := os.Remove(gone); err != nil {
		t.Skip("this system keeps the working directory: ", err)
	}
	w := NewWatcher(Options{Kubeconfig: kubeconfig}, credential.NewPlugins(nil, nil), log)
	if err := w.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := logged(lines); !strings.Contains(got, "continuing without a project file: ") || w.ProjectFile() != "" || len(w.projectFiles()) != 0 {
		t.Errorf("got log %q, project file %q", got, w.ProjectFile())
	}
}
