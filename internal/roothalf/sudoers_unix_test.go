//go:build !windows

package roothalf

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kubeshore/kubeshore/internal/machine"
	"github.com/kubeshore/kubeshore/internal/namepolicy"
	"github.com/kubeshore/kubeshore/pkg/listen"
)

// connectOptions are those of a start by user 1000, and socket is its socket.
func connectOptions() (o machine.Options, socket string) {
	prefixes := []netip.Prefix{netip.MustParsePrefix("127.64.0.0/10"), netip.MustParsePrefix("127.3.0.0/16")}
	return machine.Options{HostsFile: "/etc/hosts", Owner: "1000", Prefixes: prefixes, Names: namepolicy.Policy{Patterns: []string{"*.shop", "web.dev"}}}, "/tmp/kubeshore-123/keeper"
}

// The rule allows what kubeshore up runs, and nothing else.
func TestSudoersLine(t *testing.T) {
	o, socket := connectOptions()
	line, err := SudoersLine("ann", "/usr/local/bin/kubeshore-root", o, "/tmp")
	if err != nil {
		t.Fatal(err)
	}
	before, pattern, found := strings.Cut(line, " ^")
	if want := "ann ALL=(root) NOPASSWD: /usr/local/bin/kubeshore-root"; !found || before != want {
		t.Errorf("got %q before the arguments, want %q", before, want)
	}
	rule := regexp.MustCompile("^" + pattern)
	ours := strings.Join(ConnectArguments(o, socket), " ")
	for _, mode := range []listen.Mode{listen.ModeAuto, listen.ModeLookup, listen.ModeEach} {
		o.Listen = mode
		if args := strings.Join(ConnectArguments(o, socket), " "); !rule.MatchString(args) {
			t.Errorf("%s: got refused, want allowed", args)
		}
	}
	plain := o
	plain.Names = namepolicy.Policy{Full: true}
	if args := strings.Join(ConnectArguments(plain, socket), " "); !rule.MatchString(args) {
		t.Errorf("%s: got refused, want allowed", args)
	}
	for _, change := range [][2]string{
		{"keeper-connect", "keeper"},
		{"keeper-connect", "run-as-user"},
		{"/etc/hosts", "/etc/shadow"},
		{"/etc/hosts", "/etc/hosts2"},
		{"/etc/hosts", "/etc/hosts --hosts-file /etc/shadow"},
		{"--owner 1000", "--owner 0"},
		{"--owner 1000", "--owner 10001"},
		{"127.64.0.0/10", "10.0.0.0/8"},
		{" --cidr 127.64.0.0/10 --cidr 127.3.0.0/16", ""},
		{"/tmp/", "/run/"},
		{"-123/", "-123/../x/"},
		{"-123/keeper", "-123/keeper --program /bin/sh"},
		{"--listen auto", "--listen auto --listen x"},
		{"127.3.0.0", "127.3,0.0"},
		{"*.shop", "*.com"},
		{"*.shop", "*"},
		{"web.dev", "webxdev"},
		{"web.dev", "web.dev --hosts-file /x"},
	} {
		args := strings.Replace(ours, change[0], change[1], 1)
		if args == ours || rule.MatchString(args) {
			t.Errorf("%s: got allowed, want refused", args)
		}
	}
}

// Names and paths that mean something else in sudoers don't get into a rule.
func TestSudoersLineQuotes(t *testing.T) {
	o, _ := connectOptions()
	for _, user := range []string{"ALL", "%wheel", "ANN", "ann,bob", "a b", `CORP\\ann`, "#0", "+net", ""} {
		if line, err := SudoersLine(user, "/usr/bin/kubeshore-root", o, "/tmp"); err != nil || !strings.HasPrefix(line, "#1000 ALL=") {
			t.Errorf("user %q: got %q, %v; want the user's ID", user, line, err)
		}
	}
	for _, path := range []string{"", "x", "/", "/a b", "/a,b", "/a\nb ALL=ALL", "/a*", "/a#b", "/tmp/", "/(a|b)"} {
		if line, err := SudoersLine("ann", path, o, "/tmp"); err == nil {
			t.Errorf("program %q: got %q, want an error", path, line)
		}
		if line, err := SudoersLine("ann", "/usr/bin/kubeshore-root", o, path); err == nil {
			t.Errorf("temporary directory %q: got %q, want an error", path, line)
		}
	}
}

// A pattern that forbids names isn't in a rule, which would also match a command line
// without it.
func TestSudoersLineForbidsNoNames(t *testing.T) {
	for _, patterns := range [][]string{{"*.dev", "!vpn.dev"}, {"!*"}} {
		o, _ := connectOptions()
		o.Names.Patterns = patterns
		if line, err := SudoersLine("ann", "/usr/bin/kubeshore-root", o, "/tmp"); err == nil {
			t.Errorf("patterns %q: got %q, want an error", patterns, line)
		}
	}
}

// sudo matches the joined arguments, so keeper-connect refuses words that are grouped in
// another way than kubeshore up does, or repeated.
func TestKeeperConnectArguments(t *testing.T) {
	o, socket := connectOptions()
	ours := ConnectArguments(o, socket)
	check := func(args []string) error {
		var given commandOptions
		if _, err := given.parse(args); err != nil {
			return err
		}
		return given.checkCanonical(args)
	}
	if err := check(ours); err != nil {
		t.Errorf("%q: %v", ours, err)
	}
	for i := range len(ours) - 1 {
		merged := slices.Concat(ours[:i], []string{ours[i] + " " + ours[i+1]}, ours[i+2:])
		if strings.Join(merged, " ") != strings.Join(ours, " ") {
			t.Fatalf("%q: not the same words", merged)
		}
		if check(merged) == nil {
			t.Errorf("%q: got accepted, want refused", merged)
		}
	}
	for _, more := range [][]string{{"--hosts-file", "/etc/shadow"}, {"--verbosity", "1"}, {"word"}, {"--", "word"}} {
		if args := append(slices.Clone(ours), more...); check(args) == nil {
			t.Errorf("%q: got accepted, want refused", args)
		}
	}
}
