package namepolicy

import (
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	asked := Policy{Patterns: []string{"*.dev", "*.test.example.com", "api.example.com", "!vpn.*"}}
	reserved := Policy{Reserved: map[string]string{"rancher": "the API server", "kubernetes.default.svc": "the API server", "build": "this machine's own name"}, Patterns: []string{"*"}}
	full := Policy{Full: true, Patterns: []string{"mail.corp"}}
	for _, c := range []struct {
		policy Policy
		name   string
		why    string // part of the reason; empty if the name is permitted
	}{
		{Policy{}, "web.shop.svc.cluster.local", ""},
		{Policy{}, "web.com.svc", ""},
		{Policy{}, "wpad.shop.svc", ""},
		{Policy{}, "web.orders", ""},
		{Policy{}, "com", ""},
		{Policy{}, "web.1234", ""},
		{Policy{}, "proxy.corp.example.com", ".com is a top-level domain"},
		{Policy{}, "github.com", ".com is a top-level domain"},
		{Policy{}, "web.shop.eu", ".eu is a top-level domain"},
		{Policy{}, "printer.local", ".local is a top-level domain"},
		{Policy{}, "proxy.corp", ".corp is a top-level domain"},
		{Policy{}, "rancher.lan", ".lan is a top-level domain"},
		{Policy{}, "web.home", ".home is a top-level domain"},
		{Policy{}, "corp", ""},
		{Policy{Patterns: []string{"*.corp"}}, "proxy.corp", ""},
		{Policy{}, "com.svc", ""},
		{asked, "web.dev", ""},
		{asked, "db-0.db.dev", ""},
		{asked, "api.example.com", ""},
		{asked, "www.test.example.com", ""},
		{asked, "www.example.com", ".com is a top-level domain"},
		{asked, "vpn.dev", "!vpn.* forbids it"},
		{asked, "vpn.shop.svc", ""},
		{asked, "wpad.dev", "web proxy"},
		{Policy{}, "wpad", "web proxy"},
		{Policy{}, "isatap.shop", "IPv6 router"},
		{Policy{}, "localhost", "this machine"},
		{Policy{}, "localhost.shop", "this machine"},
		{Policy{}, "web.localhost", "this machine"},
		{Policy{}, "ip6-loopback", "this machine"},
		{Policy{Patterns: []string{"*.internal"}}, "metadata.google.internal", "credentials"},
		{Policy{Patterns: []string{"*"}}, "metadata.goog", "credentials"},
		{Policy{}, "metadata", "credentials"},
		{Policy{}, "instance-data", "credentials"},
		{Policy{}, "metadata.orders", ""},
		{Policy{Patterns: []string{"*.internal"}}, "host.docker.internal", "container runtimes"},
		{Policy{Patterns: []string{"*.internal"}}, "vault.internal", ""},
		{reserved, "rancher", "it is the API server"},
		{reserved, "rancher.shop", ""},
		{reserved, "kubernetes.default.svc", "it is the API server"},
		{reserved, "build", "this machine's own name"},
		{full, "web.shop.svc", ""},
		{full, "mail.corp", ""},
		{full, "web.orders", "only full names"},
		{full, "web", "only full names"},
		{Policy{}, "1", "an IP address"},
		{Policy{}, "10.20", "an IP address"},
		{Policy{}, "0x7f.1", "an IP address"},
		{Policy{}, "127.0.0.1", "an IP address"},
		{Policy{}, "a\nb", "not a valid DNS name"},
		{Policy{}, "Web", "not a valid DNS name"},
		{Policy{}, "", "not a valid DNS name"},
		{Policy{}, strings.Repeat("a.", 130) + "b", "it has 261 bytes, and the limit is 253"},
	} {
		got := ""
		if refusal := c.policy.Check(c.name); refusal != nil {
			got = refusal.Error()
		}
		if (got == "") != (c.why == "") || !strings.Contains(got, c.why) {
			t.Errorf("%+v %q: got %q, want %q", c.policy, c.name, got, c.why)
		}
		if strings.ContainsAny(got, "\n") || len(got) > 200 {
			t.Errorf("%q: the reason isn't one short line: %q", c.name, got)
		}
	}
}

func TestCheckPattern(t *testing.T) {
	for _, valid := range []string{"*", "*.dev", "web.dev", "[a-c]?.test"} {
		if err := CheckPattern(valid); err != nil {
			t.Error(err)
		}
		if err := CheckPublicPattern("!" + valid); err != nil {
			t.Error(err)
		}
	}
	for _, invalid := range []string{"", "*.Dev", "!web.dev", "a b", "[", "a,b", "--x\n"} {
		if CheckPattern(invalid) == nil {
			t.Errorf("%q is accepted", invalid)
		}
	}
}

func TestOwnNames(t *testing.T) {
	names := OwnNames("Build.corp.example.")
	if len(names) != 2 || names["build"] == "" || names["build.corp.example"] == "" {
		t.Errorf("got %v", names)
	}
	if names := OwnNames(""); len(names) != 0 {
		t.Errorf("got %v for an unknown name", names)
	}
}
