package controlserver

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// hostCheck is a handler that refuses requests for foreign hosts: a web page whose name
// its owner resolves to this machine could read the responses (DNS rebinding).
// IP addresses are allowed, because such a page needs a name, and names that no public
// DNS server can have.
type hostCheck struct {
	http.Handler

	allowed []string // in lowercase
}

// newHostCheck returns a handler that passes requests for this machine on to next. It
// also allows the host of address, which the user configured as HOST:PORT.
func newHostCheck(address string, next http.Handler) hostCheck {
	check := hostCheck{next, []string{"localhost"}}
	if host, _, err := net.SplitHostPort(address); err == nil && host != "" {
		check.allowed = append(check.allowed, strings.ToLower(host))
	}
	if name, err := os.Hostname(); err == nil && name != "" {
		check.allowed = append(check.allowed, strings.ToLower(name))
	}
	return check
}

// ServeHTTP implements http.Handler.
func (c hostCheck) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if host := hostOf(req); !c.allows(host) {
		text := fmt.Sprintf("host %q is not allowed: use an IP address, localhost or the host of --metrics", host)
		http.Error(w, text, http.StatusForbidden)
		return
	}
	c.Handler.ServeHTTP(w, req)
}

// hostOf returns the host that a request is for, without a port and a trailing dot.
func hostOf(req *http.Request) string {
	host := req.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
}

// containerHosts are the names of this machine in containers. Nobody can register names
// below internal, which ICANN reserves for private use.
var containerHosts = []string{"host.docker.internal", "host.containers.internal"}

// allows reports whether a host can't belong to a web page. Nobody can register names
// below localhost (RFC 6761).
func (c hostCheck) allows(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return slices.Contains(c.allowed, host) || slices.Contains(containerHosts, host) || strings.HasSuffix(host, ".localhost")
}
