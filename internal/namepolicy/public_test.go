package namepolicy

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/publicsuffix"
)

var update = flag.Bool("update", false, "write topleveldomains.txt")

// The list has exactly the top-level domains of the public suffix list in
// golang.org/x/net. Updating that module shows here whether the list is current.
func TestTopLevelDomains(t *testing.T) {
	want := topLevelOfModule(t)
	date := regexp.MustCompile(`\d{4}-\d\d-\d\d`).FindString(publicsuffix.List.String())
	text := fmt.Sprintf("# The top-level domains of publicsuffix.org's list of %s,\n# from golang.org/x/net/publicsuffix. go test -update writes this file.\n%s\n", date, strings.Join(want, "\n"))
	if *update {
		if err := os.WriteFile("topleveldomains.txt", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if topLevelText != text {
		t.Error("topleveldomains.txt differs from golang.org/x/net/publicsuffix: go test ./internal/namepolicy -update")
	}
	for domain := range topLevel() {
		if _, icann := publicsuffix.PublicSuffix("a.b.c." + domain); !icann {
			t.Errorf("%s is not a top-level domain", domain)
		}
	}
	if len(topLevel()) < 1400 {
		t.Errorf("got %d top-level domains", len(topLevel()))
	}
}

// topLevelOfModule reads the top-level domains from the module's files: they are the
// first numTLD nodes, of 5 bytes each, whose last 22 bits are the offset and the
// length of the label in the text (see the module's table.go).
func topLevelOfModule(t *testing.T) []string {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), "go", "list", "-json=Dir", "golang.org/x/net/publicsuffix").Output()
	if err != nil {
		t.Fatal(err)
	}
	var pkg struct{ Dir string }
	if err := json.Unmarshal(output, &pkg); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(pkg.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	var count int
	found := regexp.MustCompile(`const numTLD = (\d+)`).FindStringSubmatch(read("table.go"))
	if _, err := fmt.Sscan(found[1], &count); err != nil {
		t.Fatal(err)
	}
	nodes, text := read("data/nodes"), read("data/text")
	domains := make([]string, count)
	for i := range domains {
		var node uint64
		for _, b := range []byte(nodes[5*i : 5*i+5]) {
			node = node<<8 | uint64(b)
		}
		length, offset := node&(1<<6-1), node>>6&(1<<16-1)
		domains[i] = text[offset : offset+length]
	}
	slices.Sort(domains)
	return domains
}

func TestPublic(t *testing.T) {
	for name, want := range map[string]string{
		"web.dev": "dev", "proxy.corp.example.com": "com", "github.com": "com", "web.shop.eu": "eu", "db-0.app": "app",
		"printer.local": "local", "vault.internal": "internal", "web.xn--p1ai": "xn--p1ai",
		"com": "", "app": "", "web.orders": "", "web.shop.svc": "", "local": "",
	} {
		got, ok := Public(name)
		if !ok {
			got = ""
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if !NeedsHTTPS("dev") || NeedsHTTPS("shop") {
		t.Error("HTTPS: dev needs it, shop doesn't")
	}
}
