package kube

import (
	"net/netip"
	"net/url"
	"os"
	"strings"

	"golang.org/x/net/idna"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// reservedHosts returns the hosts that kubeshore, kubectl and their credential
// plugins need to reach the clusters of a kubeconfig, with what each is used for:
// API servers and proxies of all its clusters, the proxies of the environment, and
// URLs in the configuration of credentials. If one of these names led to a Service,
// its cluster could be reached only by way of itself.
func reservedHosts(config *clientcmdapi.Config) map[string]string {
	hosts := make(map[string]string)
	add := func(text, use string) {
		if host := hostOf(text); host != "" && hosts[host] == "" {
			hosts[host] = use
		}
	}
	for name, cluster := range config.Clusters {
		add(cluster.Server, "the API server of cluster "+name)
		add(cluster.ProxyURL, "the proxy of cluster "+name)
	}
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"} {
		for _, variable := range []string{name, strings.ToLower(name)} {
			add(os.Getenv(variable), "the proxy of "+variable)
		}
	}
	for name, user := range config.AuthInfos {
		use := "used by the credentials of user " + name
		if user.AuthProvider != nil {
			for _, value := range user.AuthProvider.Config {
				addURLs(value, use, add)
			}
		}
		if user.Exec != nil {
			for _, argument := range user.Exec.Args {
				addURLs(argument, use, add)
			}
			for _, variable := range user.Exec.Env {
				addURLs(variable.Value, use, add)
			}
		}
	}
	return hosts
}

// addURLs calls add with the URLs in a plugin's argument or variable, e.g.
// --issuer-url=https://…, and ignores other text.
func addURLs(argument, use string, add func(text, use string)) {
	for field := range strings.FieldsFuncSeq(argument, func(r rune) bool { return strings.ContainsRune(",;|\"' ", r) }) {
		if scheme, rest, found := strings.Cut(field, "://"); found {
			add(scheme[strings.LastIndexByte(scheme, '=')+1:]+"://"+rest, use)
		}
	}
}

// hostOf returns the host of a URL, which may lack its scheme, as a DNS name in
// lowercase, with other characters than ASCII in the form that DNS has (RFC 5891); empty
// if it is an address, or if there is none.
func hostOf(text string) string {
	if !strings.Contains(text, "://") {
		text = "//" + text // as in HTTPS_PROXY=proxy:3128
	}
	parsed, err := url.Parse(text)
	if err != nil {
		return ""
	}
	host := strings.TrimSuffix(parsed.Hostname(), ".")
	if ascii, err := idna.Lookup.ToASCII(host); err == nil { // otherwise it has e.g. an underscore
		host = ascii
	}
	host = strings.ToLower(host)
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	return host
}
