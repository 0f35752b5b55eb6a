package config

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sirupsen/logrus/hooks/test"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubeshore/kubeshore/internal/project"
	"github.com/kubeshore/kubeshore/pkg/kube"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

const everything = `
contexts:
- name: dev
- {name: "arn:aws:eks:eu-west-1:1:cluster/staging", alias: eu, namespaces: ["*"], include: [web], ingressController: nginx.ingress}
namespaces: [shop, data]
include: ["web*", db.data]
exclude: [debug]
domain: test
ports: {80: 8080}
ingress: ["*.example.com"]
publicNames: ["*.dev", "!vpn.*"]
services:
  web.shop: {address: 127.64.0.80, ports: {80: 8081}, names: [Shop.Example.com]}
  api.shop.eu: {local: true}
  gone.shop.us: {local: true}
`

// resolveFile resolves a project file and a command line. The kubeconfig has three
// contexts.
func resolveFile(t *testing.T, file string, spec Spec) (Resolved, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), project.Name)
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := project.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return resolve(&spec, loaded, func(context string) (*kube.Cluster, error) {
		namespaces := map[string]string{"": "shop", "dev": "shop", "prod": "default", "arn:aws:eks:eu-west-1:1:cluster/staging": "default"}
		namespace, ok := namespaces[context]
		if !ok {
			return nil, fmt.Errorf("no context %s", context)
		}
		if context == "" {
			context = "dev"
		}
		return &kube.Cluster{Context: context, Namespace: namespace}, nil
	})
}

func TestResolve(t *testing.T) {
	const staging = "arn:aws:eks:eu-west-1:1:cluster/staging"
	for name, c := range map[string]struct {
		file    string
		spec    Spec
		follow  []kube.Follow
		options []plan.ContextOptions
	}{
		"neither": {
			follow:  []kube.Follow{{Context: "dev", Namespaces: []string{"shop"}}},
			options: []plan.ContextOptions{{Context: "dev", Alias: "dev", Namespace: "shop"}},
		},
		"file only": {
			file: everything,
			follow: []kube.Follow{
				{Context: "dev", Namespaces: []string{"shop", "data"}, Services: []types.NamespacedName{{Namespace: "data", Name: "db"}}, Ingresses: true},
				{Context: staging, Services: []types.NamespacedName{{Namespace: "ingress", Name: "nginx"}}, Ingresses: true},
			},
			options: []plan.ContextOptions{
				{Context: "dev", Alias: "dev", Namespace: "shop", Include: []string{"web*", "db.data"}, Exclude: []string{"debug"}},
				{
					Context: staging, Alias: "eu", Namespace: "default", Include: []string{"web", "nginx.ingress"}, Exclude: []string{"debug"},
					IngressController: plan.ServiceID{Context: staging, Namespace: "ingress", Name: "nginx"},
				},
			},
		},
		"flags take precedence": {
			file: everything,
			spec: Spec{Contexts: []string{"prod", "dev", "prod"}, Namespaces: []string{"a", "b", "a"}, Include: []string{"web"}, Exclude: []string{"x"}, LabelSelector: "app=web", FieldSelector: "metadata.name!=y"},
			follow: []kube.Follow{
				{Context: "prod", Namespaces: []string{"a", "b"}, Services: []types.NamespacedName{{Namespace: "a", Name: "web"}, {Namespace: "b", Name: "web"}}, Labels: "app=web", Fields: "metadata.name!=y", Ingresses: true},
				{Context: "dev", Namespaces: []string{"a", "b"}, Services: []types.NamespacedName{{Namespace: "a", Name: "web"}, {Namespace: "b", Name: "web"}}, Labels: "app=web", Fields: "metadata.name!=y", Ingresses: true},
			},
			options: []plan.ContextOptions{
				{Context: "prod", Alias: "prod", Namespace: "a", Include: []string{"web"}, Exclude: []string{"x"}},
				{Context: "dev", Alias: "dev", Namespace: "a", Include: []string{"web"}, Exclude: []string{"x"}},
			},
		},
		"all namespaces": {
			spec:    Spec{AllNamespaces: true, Ingress: []string{"*"}},
			follow:  []kube.Follow{{Context: "dev", Ingresses: true}},
			options: []plan.ContextOptions{{Context: "dev", Alias: "dev", Namespace: "shop"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := resolveFile(t, c.file, c.spec)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got.Follow, c.follow) {
				t.Errorf("follow: got\n%+v, want\n%+v", got.Follow, c.follow)
			}
			if !reflect.DeepEqual(got.Plan.Contexts, c.options) {
				t.Errorf("contexts: got\n%+v, want\n%+v", got.Plan.Contexts, c.options)
			}
		})
	}
}

func TestResolveServices(t *testing.T) {
	got, err := resolveFile(t, everything, Spec{
		Ports:     map[uint16]uint16{443: 8443},
		Domain:    "Test.Local.",
		Addresses: map[string]netip.Addr{"web": netip.MustParseAddr("127.3.3.1"), "db.data.svc": netip.MustParseAddr("127.3.3.2"), "x.y.eu": netip.MustParseAddr("127.3.3.3")},
	})
	if err != nil {
		t.Fatal(err)
	}
	const staging = "arn:aws:eks:eu-west-1:1:cluster/staging"
	want := map[plan.ServiceID]plan.ServiceOptions{
		{Context: "dev", Namespace: "shop", Name: "web"}: {
			Address: netip.MustParseAddr("127.3.3.1"), Mapping: map[uint16]uint16{80: 8081}, Names: []string{"shop.example.com"},
		},
		{Context: "dev", Namespace: "data", Name: "db"}:    {Address: netip.MustParseAddr("127.3.3.2")},
		{Context: staging, Namespace: "y", Name: "x"}:      {Address: netip.MustParseAddr("127.3.3.3")},
		{Context: staging, Namespace: "shop", Name: "api"}: {Mapping: map[uint16]uint16{}, Names: []string{}, Local: true},
	}
	if !reflect.DeepEqual(got.Plan.Services, want) {
		t.Errorf("services: got\n%+v, want\n%+v", got.Plan.Services, want)
	}
	if got.Plan.Mapping[443] != 8443 || len(got.Plan.Mapping) != 1 || got.Plan.Domain != "test.local" {
		t.Errorf("plan options: got %+v", got.Plan)
	}
}

func TestResolveErrors(t *testing.T) {
	for want, c := range map[string]struct {
		file string
		spec Spec
	}{
		"--domain adds short names, and shortNames in kubeshore.yaml excludes them": {file: "shortNames: false", spec: Spec{Domain: "test"}},
		"no context stage": {spec: Spec{Contexts: []string{"stage"}}},
		"service web.shop: invalid address 127.0.0.1: must be within": {spec: Spec{Addresses: map[string]netip.Addr{"web": netip.MustParseAddr("127.0.0.1")}}},
		"services a.b and web.shop have the same address 127.3.3.1":   {spec: Spec{Addresses: map[string]netip.Addr{"a.b.svc.cluster.local": netip.MustParseAddr("127.3.3.1"), "web": netip.MustParseAddr("127.3.3.1"), "a.b.c": netip.MustParseAddr("127.3.3.1")}}},
	} {
		if _, err := resolveFile(t, c.file, c.spec); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// Contexts whose names differ only in characters that a DNS label can't have get
// different aliases.
func TestAliasesAreUnique(t *testing.T) {
	var r Resolved
	for _, context := range []string{"user@cluster:6443", "user-cluster/6443", "user.cluster.6443", "§"} {
		alias := r.alias(context, kube.Label(context))
		r.Plan.Contexts = append(r.Plan.Contexts, plan.ContextOptions{Context: context, Alias: alias})
	}
	got := make([]string, 0, len(r.Plan.Contexts))
	for _, c := range r.Plan.Contexts {
		got = append(got, c.Alias)
	}
	if want := []string{"user-cluster-6443", "user-cluster-6443-2", "user-cluster-6443-3", "context"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	const note = "context user.cluster.6443 is named user-cluster-6443-3 because user-cluster-6443 is the alias of context user@cluster:6443; set an alias in kubeshore.yaml"
	if len(r.Notes) != 2 || r.Notes[1] != note {
		t.Errorf("notes: got %q, want two, the second %s", r.Notes, note)
	}
	if label := kube.Label(strings.Repeat("long", 20) + "/end"); len(label) > 63 || !strings.HasSuffix(label, "-end") {
		t.Errorf("label: got %q", label)
	}
}

// The addresses of kubefwd's file are used, except those that a flag sets. The file has
// the form that kubefwd reads, or the one that it documents.
func TestKubefwdFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fwd.yml")
	flags, err := ParseAddresses([]string{"web:127.3.3.9"})
	if err != nil {
		t.Fatal(err)
	}
	log, lines := test.NewNullLogger()
	w := &Watcher{log: log}
	for _, text := range []string{
		"baseUnreservedIP: 127.1.27.1\nserviceConfigurations:\n  - {name: db.data, ip: 127.3.3.1}\n  - {name: web, ip: 127.3.3.2}\n",
		"baseIP: 127.1.27.1\nreservations:\n  - {service: db, namespace: data, ip: 127.3.3.1}\n  - {service: web, ip: 127.3.3.2}\n",
		"baseIP: 127.1.27.1\nreservations:\n  - {service: db, namespace: data, ip: 127.3.3.1}\nserviceConfigurations:\n  - {name: db.data, ip: 127.3.3.1}\n  - {name: web, ip: 127.3.3.2}\n",
	} {
		w.spec = Spec{Addresses: flags}
		writeFile(t, path, text)
		err = w.addKubefwdFile(path)
		want := map[string]netip.Addr{"db.data": netip.MustParseAddr("127.3.3.1"), "web": netip.MustParseAddr("127.3.3.9")}
		if got := w.spec.Addresses; err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, %v, want %v", text, got, err, want)
		}
		if got := logged(lines); strings.Count(got, "\n") != 1 || !strings.Contains(got, "the base IP is ignored") {
			t.Errorf("%s: log: got %s, want that the base IP is ignored", text, got)
		}
	}
	for text, want := range map[string]string{
		"reservations:\n  - {namespace: data, ip: 127.3.3.1}\n":                                                  "invalid service",
		"reservations:\n  - {service: db, ip: web}\n":                                                            "invalid service",
		"reservations:\n  - {service: a, ip: 127.3.3.1}\nserviceConfigurations:\n  - {name: a, ip: 127.3.3.2}\n": "service a has two addresses",
	} {
		writeFile(t, path, text)
		if err := w.addKubefwdFile(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
	if err := w.addKubefwdFile(filepath.Join(path, "none")); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("a file that doesn't exist: got %v, want an error in one line", err)
	}
}

func TestParseAddressesErrors(t *testing.T) {
	for _, text := range []string{"", "web", ":127.0.0.1", "web:host"} {
		if _, err := ParseAddresses([]string{text}); err == nil || !strings.HasPrefix(err.Error(), "invalid --reserve ") {
			t.Errorf("%q: got %v, want an error", text, err)
		}
	}
}

func TestParsePortsErrors(t *testing.T) {
	for _, texts := range [][]string{{"80"}, {"80:"}, {"0:80"}, {"80:65536"}, {"80:1", "80:2"}} {
		if _, err := ParsePorts(texts); err == nil || !strings.HasPrefix(err.Error(), "invalid --mapping ") {
			t.Errorf("%q: got %v, want an error", texts, err)
		}
	}
}

// Names are asked for by whoever named what they end in; the keeper gets them as
// patterns, with what it can't tell from them.
func TestResolveNames(t *testing.T) {
	asked := []string{"*.shop", "*.data", "*.eu", "*.test", "web.shop"}
	for name, c := range map[string]struct {
		file   string
		spec   Spec
		plan   []string
		keeper []string // of the whole configuration
		typed  []string // of the command line alone
	}{
		"the context's namespace": {plan: []string{"*.shop"}, keeper: []string{"*.shop"}},
		"file": {
			file: everything, plan: slices.Concat(asked, []string{"*.dev", "!vpn.*"}),
			keeper: []string{"*.shop", "*.data", "*.eu", "web.shop", "*.dev", "!vpn.*", "*.example.com", "shop.example.com"},
		},
		"flags": {
			file: everything,
			spec: Spec{
				Contexts: []string{"dev", "prod"}, Namespaces: []string{"dev"}, Domain: "Corp.Test.", Include: []string{"web.app", "a*"},
				PublicNames: []string{"*.page"}, Ingress: []string{"*"},
			},
			plan:   []string{"*.dev", "*.app", "*.prod", "*.corp.test", "web.shop", "*.page"},
			keeper: []string{"*.dev", "*.app", "*.prod", "web.shop", "*.page", "*", "shop.example.com"},
			typed:  []string{"*.dev", "*.app", "*.prod", "*.page", "*"},
		},
		"all namespaces": {spec: Spec{AllNamespaces: true}},
		"full names": {
			file: everything, spec: Spec{Contexts: []string{"dev", "prod"}, Namespaces: []string{"dev"}, Names: NamesFull},
			plan:   []string{"*.svc.prod", "*.dev", "!vpn.*"},
			keeper: []string{"*.svc.prod", "*.dev", "!vpn.*", "*.example.com", "shop.example.com"},
			typed:  []string{"*.svc.prod"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.spec.Check(); err != nil {
				t.Fatal(err)
			}
			resolved, err := resolveFile(t, c.file, c.spec)
			if err != nil {
				t.Fatal(err)
			}
			w := &Watcher{}
			w.resolved.Store(&resolved)
			for kind, patterns := range map[string][2][]string{
				"plan": {resolved.Plan.Names.Patterns, c.plan}, "keeper": {w.KeeperNames().Patterns, c.keeper}, "typed": {c.spec.KeeperNames().Patterns, c.typed},
			} {
				got, want := slices.Sorted(slices.Values(patterns[0])), slices.Sorted(slices.Values(patterns[1]))
				if !slices.Equal(got, want) {
					t.Errorf("%s: got %q, want %q", kind, got, want)
				}
			}
		})
	}
}

// The project file can leave out short names, and the flag decides otherwise. The keeper
// gets the same.
func TestShortNames(t *testing.T) {
	for _, c := range []struct {
		file string
		flag Names
		want bool // only full names
	}{
		{"", "", false},
		{"", NamesFull, true},
		{"shortNames: false", "", true},
		{"shortNames: false", NamesShort, false},
		{"shortNames: false", NamesFull, true},
		{"shortNames: true", "", false},
		{"shortNames: true", NamesFull, true},
		{"domain: test", NamesFull, true},
	} {
		resolved, err := resolveFile(t, c.file, Spec{Names: c.flag})
		if err != nil {
			t.Fatal(err)
		}
		w := new(Watcher)
		w.resolved.Store(&resolved)
		if plan, keeper := resolved.Plan.Names.Full, w.KeeperNames().Full; plan != c.want || keeper != c.want {
			t.Errorf("%q with --names %s: got plan %t, keeper %t, want %t", c.file, c.flag, plan, keeper, c.want)
		}
	}
	if _, err := resolveFile(t, "shortNames: false", Spec{Domain: "test", Names: NamesShort}); err != nil {
		t.Error(err)
	}
}
