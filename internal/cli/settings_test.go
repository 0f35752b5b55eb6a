package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

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
ingress: true
services:
  web.shop: {address: 127.64.0.80, ports: {80: 8081}, names: [Shop.Example.com]}
  api.shop.eu: {local: true}
  gone.shop.us: {local: true}
`

// settled puts a project's file and a command line together; three contexts are
// in the kubeconfig.
func settled(t *testing.T, file string, said selection) (settings, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), project.Name)
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := project.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return said.settle(loaded, func(context string) (*kube.Cluster, error) {
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

func TestSettle(t *testing.T) {
	const staging = "arn:aws:eks:eu-west-1:1:cluster/staging"
	for name, c := range map[string]struct {
		file    string
		said    selection
		follow  []kube.Follow
		options []plan.ContextOptions
	}{
		"nothing is said": {
			follow:  []kube.Follow{{Context: "dev", Namespaces: []string{"shop"}}},
			options: []plan.ContextOptions{{Context: "dev", Alias: "dev", Namespace: "shop"}},
		},
		"the file alone": {
			file: everything,
			follow: []kube.Follow{
				{Context: "dev", Namespaces: []string{"shop", "data"}, Services: []string{"db.data"}, Ingresses: true},
				{Context: staging, Services: []string{"nginx.ingress"}, Ingresses: true},
			},
			options: []plan.ContextOptions{
				{Context: "dev", Alias: "dev", Namespace: "shop", Include: []string{"web*", "db.data"}, Exclude: []string{"debug"}},
				{
					Context: staging, Alias: "eu", Namespace: "default", Include: []string{"web", "nginx.ingress"}, Exclude: []string{"debug"},
					Controller: plan.ServiceID{Context: staging, Namespace: "ingress", Name: "nginx"},
				},
			},
		},
		"flags go first": {
			file: everything,
			said: selection{contexts: []string{"prod", "dev", "prod"}, namespaces: []string{"a", "b", "a"}, include: []string{"web"}, exclude: []string{"x"}, selector: "app=web", fieldSelector: "metadata.name!=y"},
			follow: []kube.Follow{
				{Context: "prod", Namespaces: []string{"a", "b"}, Services: []string{"web.a", "web.b"}, Labels: "app=web", Fields: "metadata.name!=y", Ingresses: true},
				{Context: "dev", Namespaces: []string{"a", "b"}, Services: []string{"web.a", "web.b"}, Labels: "app=web", Fields: "metadata.name!=y", Ingresses: true},
			},
			options: []plan.ContextOptions{
				{Context: "prod", Alias: "prod", Namespace: "a", Include: []string{"web"}, Exclude: []string{"x"}},
				{Context: "dev", Alias: "dev", Namespace: "a", Include: []string{"web"}, Exclude: []string{"x"}},
			},
		},
		"all namespaces": {
			said:    selection{all: true, ingress: true},
			follow:  []kube.Follow{{Context: "dev", Ingresses: true}},
			options: []plan.ContextOptions{{Context: "dev", Alias: "dev", Namespace: "shop"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := settled(t, c.file, c.said)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got.follow, c.follow) {
				t.Errorf("it follows\n%+v, want\n%+v", got.follow, c.follow)
			}
			if !reflect.DeepEqual(got.options.Contexts, c.options) {
				t.Errorf("the contexts are\n%+v, want\n%+v", got.options.Contexts, c.options)
			}
		})
	}
}

func TestSettleServices(t *testing.T) {
	got, err := settled(t, everything, selection{
		mapping:  []string{"443:8443"},
		domain:   "Test.Local",
		reserved: map[string]netip.Addr{"web": netip.MustParseAddr("127.3.3.1"), "db.data.svc": netip.MustParseAddr("127.3.3.2"), "x.y.eu": netip.MustParseAddr("127.3.3.3")},
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
	if !reflect.DeepEqual(got.options.Services, want) {
		t.Errorf("the services are\n%+v, want\n%+v", got.options.Services, want)
	}
	if got.options.Mapping[443] != 8443 || len(got.options.Mapping) != 1 || got.options.Domain != "test.local" {
		t.Errorf("the options are %+v", got.options)
	}
}

func TestSettleFaults(t *testing.T) {
	for want, c := range map[string]struct {
		file string
		said selection
	}{
		"no context stage": {said: selection{contexts: []string{"stage"}}},
		"service web.shop: address 127.0.0.1: must be within":       {said: selection{reserved: map[string]netip.Addr{"web": netip.MustParseAddr("127.0.0.1")}}},
		"services a.b and web.shop have the same address 127.3.3.1": {said: selection{reserved: map[string]netip.Addr{"a.b.svc.cluster.local": netip.MustParseAddr("127.3.3.1"), "web": netip.MustParseAddr("127.3.3.1"), "a.b.c": netip.MustParseAddr("127.3.3.1")}}},
		"--mapping: port 80 is there twice":                         {said: selection{mapping: []string{"80:1", "80:2"}}},
	} {
		if _, err := settled(t, c.file, c.said); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// Two contexts with the same name but for what no DNS label has still have
// aliases of their own.
func TestAliases(t *testing.T) {
	var s settings
	for _, context := range []string{"user@cluster:6443", "user-cluster/6443", "user.cluster.6443", "§"} {
		alias := s.alias(context, kube.Label(context))
		s.options.Contexts = append(s.options.Contexts, plan.ContextOptions{Context: context, Alias: alias})
	}
	got := make([]string, 0, len(s.options.Contexts))
	for _, c := range s.options.Contexts {
		got = append(got, c.Alias)
	}
	if want := []string{"user-cluster-6443", "user-cluster-6443-2", "user-cluster-6443-3", "context"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	const note = "context user.cluster.6443 is called user-cluster-6443-3 in names, as user-cluster-6443 stands for context user@cluster:6443; give it an alias in kubeshore.yaml"
	if len(s.notes) != 2 || s.notes[1] != note {
		t.Errorf("it says %q, want two notes, the second %s", s.notes, note)
	}
	if label := kube.Label(strings.Repeat("long", 20) + "/end"); len(label) > 63 || !strings.HasSuffix(label, "-end") {
		t.Errorf("the label is %q", label)
	}
}

// kubefwd's file and flags of addresses.
func TestReserved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fwd.yml")
	text := "baseUnreservedIP: 127.1.27.1\nserviceConfigurations:\n  - {name: db.data, ip: 127.3.3.1}\n  - {name: web, ip: 127.3.3.2}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, _, err := reserved(path, []string{"web:127.3.3.9"})
	want := map[string]netip.Addr{"db.data": netip.MustParseAddr("127.3.3.1"), "web": netip.MustParseAddr("127.3.3.9")}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for _, c := range []struct{ conf, flag string }{{filepath.Join(path, "none"), ""}, {"", "web"}, {"", ":127.0.0.1"}, {"", "web:host"}} {
		if _, _, err := reserved(c.conf, []string{c.flag}); err == nil || strings.Contains(err.Error(), "\n") || errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%v: %v", c, err)
		}
	}
}
