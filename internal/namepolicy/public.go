package namepolicy

import (
	_ "embed" // the list of top-level domains
	"slices"
	"strings"
	"sync"
)

// topLevelText lists the top-level domains, one a line, below comments with
// their source and date. TestTopLevelDomains compares it with the source, and
// writes it.
//
//go:embed topleveldomains.txt
var topLevelText string

// topLevel is the set of top-level domains.
var topLevel = sync.OnceValue(func() map[string]bool {
	domains := make(map[string]bool)
	for line := range strings.Lines(topLevelText) {
		if !strings.HasPrefix(line, "#") {
			domains[strings.TrimSuffix(line, "\n")] = true
		}
	}
	return domains
})

// localDomains are used like top-level domains in local networks: by mDNS, reserved
// for private use by ICANN, or by many companies and routers (RFC 6762, section 3 and
// appendix G).
var localDomains = []string{"local", "internal", "intranet", "private", "corp", "home", "lan", "localdomain"}

// Public returns the top-level domain of a name that may be somebody else's, in
// the public DNS or the local network. A name without a dot isn't public:
// resolvers don't ask the root servers for it, and a Service named app is common.
func Public(name string) (domain string, ok bool) {
	dot := strings.LastIndexByte(name, '.')
	domain = name[dot+1:]
	return domain, dot > 0 && (topLevel()[domain] || slices.Contains(localDomains, domain))
}

// httpsDomains are the top-level domains that all browsers use HTTPS for, because
// they are in the HSTS preload list; without those for one company's own use.
var httpsDomains = []string{
	"app", "bank", "boo", "channel", "dad", "day", "dev", "eat", "esq", "fly", "foo", "ing", "insurance", "meme", "mov", "new", "nexus", "page",
	"phd", "play", "prof", "rsvp", "search", "zip",
}

// NeedsHTTPS reports whether browsers don't use HTTP for names of a top-level domain.
func NeedsHTTPS(domain string) bool { return slices.Contains(httpsDomains, domain) }
