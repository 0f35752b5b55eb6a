package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"

	"github.com/kubeshore/kubeshore/internal/project"
	"github.com/kubeshore/kubeshore/pkg/credential"
)

// What only the user may decide needs a confirmation, unless the command line decides it.
func TestDecisions(t *testing.T) {
	for text, want := range map[string][]string{
		"namespaces: orders\ninclude: web\nports: {80: 8080}\nservices: {web.shop: {local: true}, db.shop: {address: 127.64.0.1}}": nil,
		"contexts: [{name: dev}]":                           nil,
		"contexts: [{name: dev, alias: com}]":               nil, // the first context's names have no alias
		"contexts: [{name: dev}, {name: prod, alias: com}]": {"forward from context prod", "add names that end with .com"},
		"domain: com": {"add names that end with .com"},
		"services: {web.shop: {names: [a.example.com, b]}}":    {"add the name a.example.com to service web.shop", "add the name b to service web.shop"},
		"services: {web.shop: {names: x.y.svc.cluster.local}}": nil,
		"services: {web.shop: {names: svc.cluster.local}}":     {"add the name svc.cluster.local to service web.shop"},
		"namespaces: [orders, dev]":                            {"add names that end with .dev"},
		"contexts: [{name: dev, namespaces: dev}]":             {"add names that end with .dev"},
		"contexts: [{name: dev, ingressController: a.b}]":      nil, // unused without ingress
		"ingress: '*.test'":                                    {"add hosts of Ingresses that match *.test"},
		"publicNames: ['*.dev', '!vpn.*']":                     {"add public names that match *.dev"},
	} {
		path := filepath.Join(t.TempDir(), project.Name)
		writeFile(t, path, text)
		file, err := project.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := decisions(new(Spec), file, "dev"); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
		flags := &Spec{Contexts: []string{"prod"}, Domain: "test"}
		if got := decisions(flags, file, "dev"); slices.ContainsFunc(got, func(d string) bool { return strings.Contains(d, "com") && !strings.Contains(d, "name ") }) {
			t.Errorf("%s with flags: got %q", text, got)
		}
	}
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
