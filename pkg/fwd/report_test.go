package fwd_test

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kubeshore/kubeshore/internal/logevent"
	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/loopback"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// Lines about services that are added or changed together have aligned columns,
// with problems after them.
func TestReportAlignsColumns(t *testing.T) {
	addresses, err := loopback.NewPool([]netip.Prefix{loopback.DefaultPrefix}, "me", nil)
	if err != nil {
		t.Fatal(err)
	}
	engine := &fwd.Engine{Options: options, Addresses: addresses, Aliases: noAliases{}, Names: noNames{}, Ports: noPorts{}}
	lines := recordLog(engine)
	apply := fwd.ApplyForTest(t, engine)
	address := regexp.MustCompile(`127\.[0-9.]+:80 *`) // its length depends on a hash
	logged := func() (texts []string) {
		for _, entry := range lines.AllEntries() {
			if kind, ok := logevent.Of(entry); !ok || kind.Mark() != entry.Message[0] {
				t.Errorf("%q: got kind %q", entry.Message, kind)
			}
			texts = append(texts, address.ReplaceAllString(entry.Message, "AT "))
		}
		lines.Reset()
		return texts
	}

	outside := plan.Service{ID: plan.ServiceID{Context: "c", Namespace: "ns", Name: "outside"}, ExternalName: "example.com"}
	db := service("db", "a", "b")
	apply(plan.Snapshot{Services: []plan.Service{db, outside, service("web-with-a-name")}})
	want := []string{
		"+ db.ns               AT 2/2 ready",
		"+ outside.ns          skipped; ExternalName example.com is outside the cluster",
		"+ web-with-a-name.ns  AT no pods",
	}
	if got := logged(); !slices.Equal(got, want) {
		t.Errorf("got log\n%q\nwant\n%q", got, want)
	}
	apply(plan.Snapshot{Services: []plan.Service{service("db", "a"), service("web-with-a-name")}})
	if got, want := logged(), []string{"~ db.ns  AT 1/1 ready", "- outside.ns"}; !slices.Equal(got, want) {
		t.Errorf("got log\n%q\nwant\n%q", got, want)
	}
}

// The line of a Service is short even if it has many ports, and its pods have none.
func TestReportedPortsAreLimited(t *testing.T) {
	addresses, err := loopback.NewPool([]netip.Prefix{loopback.DefaultPrefix}, "me", nil)
	if err != nil {
		t.Fatal(err)
	}
	engine := &fwd.Engine{Options: options, Addresses: addresses, Aliases: noAliases{}, Names: noNames{}, Ports: noPorts{}}
	lines := recordLog(engine)
	web := service("web", "a", "b")
	for i := range web.Endpoints {
		web.Endpoints[i].Address = netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
	}
	for n := range 999 {
		web.Ports = append(web.Ports, plan.ServicePort{Name: "more", Protocol: "TCP", Number: uint16(1000 + n)})
	}
	fwd.ApplyForTest(t, engine)(plan.Snapshot{Services: []plan.Service{web}})
	entries := lines.AllEntries()
	if len(entries) != 1 || len(entries[0].Message) > 1000 || !strings.Contains(entries[0].Message, ",… (1000 ports)  ") {
		t.Errorf("got %d lines, first %.300q, want one that ends after some ports", len(entries), entries[0].Message)
	}
}

// The all-clear names the context that recovered, once, not the errors; a problem of
// several contexts is one line.
func TestReportOfClusters(t *testing.T) {
	addresses, err := loopback.NewPool([]netip.Prefix{loopback.DefaultPrefix}, "me", nil)
	if err != nil {
		t.Fatal(err)
	}
	engine := &fwd.Engine{Options: options, Addresses: addresses, Aliases: noAliases{}, Names: noNames{}, Ports: noPorts{}}
	lines := recordLog(engine)
	apply := fwd.ApplyForTest(t, engine)
	unused := func(context string) string {
		return "context " + context + ": a replacement for a missing permission is no longer in use"
	}
	for _, c := range []struct {
		problems, notes []string
		want            []string
	}{
		{[]string{"not allowed", "no route"}, []string{"reading pods instead"}, []string{"not allowed", "no route", "reading pods instead"}}, // once for both
		{[]string{"not allowed"}, []string{"reading pods instead"}, []string{"context c recovered in part; remaining: not allowed", "context d recovered in part; remaining: not allowed"}},
		{[]string{"another"}, []string{"reading pods instead"}, []string{"another"}},
		{nil, []string{"reading pods instead"}, []string{"context c recovered", "context d recovered"}},
		{nil, nil, []string{unused("c"), unused("d")}}, // nothing was broken
		{nil, nil, nil},
		{nil, []string{"reading pods instead"}, []string{"reading pods instead"}},
		{[]string{"not allowed"}, nil, []string{"not allowed"}}, // the replacement isn't allowed either
	} {
		lines.Reset()
		apply(plan.Snapshot{Clusters: []plan.Cluster{{Context: "c", Problems: c.problems, Notes: c.notes}, {Context: "d", Problems: c.problems, Notes: c.notes}}})
		entries := lines.AllEntries()
		got := make([]string, 0, len(entries))
		for _, entry := range entries {
			got = append(got, entry.Message)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("got log\n%q\nwant\n%q", got, c.want)
		}
	}
}

// A problem that several Services have is logged once; the others' lines refer to that one.
func TestSharedProblemIsLoggedOnce(t *testing.T) {
	addresses, err := loopback.NewPool([]netip.Prefix{loopback.DefaultPrefix}, "me", nil)
	if err != nil {
		t.Fatal(err)
	}
	engine := &fwd.Engine{Options: options, Addresses: addresses, Aliases: noAliases{}, Names: noNames{}, Ports: noPorts{}}
	lines := recordLog(engine)
	api, web := service("api", "a"), service("web", "b")
	api.Denied, web.Denied = "you may not create pods/portforward", "you may not create pods/portforward"
	fwd.ApplyForTest(t, engine)(plan.Snapshot{Services: []plan.Service{web, api}})
	if n := countLines(lines, "you may not"); n != 1 || countLines(lines, "+ web.ns") != 1 || countLines(lines, "; see api.ns") != 1 {
		t.Errorf("got %d lines with the problem, want one, and a reference to it in that of web", n)
	}
}
