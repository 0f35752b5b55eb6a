// Package dnsname checks DNS names as Kubernetes and hosts files use them.
package dnsname

import "strings"

// The limits of RFC 1035, section 2.3.4, in bytes; of a name without its
// trailing dot.
const (
	MaxLabel = 63
	MaxName  = 253
)

// IsLabel reports whether text is a DNS label as defined by RFC 1123, in lower
// case: the form of the names of namespaces and Services.
func IsLabel(text string) bool {
	return text != "" && len(text) <= MaxLabel && strings.Trim(text, "-") == text &&
		strings.Trim(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// IsName reports whether text is one or more labels, separated by dots, in
// lowercase and without a trailing dot.
func IsName(text string) bool {
	for label := range strings.SplitSeq(text, ".") {
		if !IsLabel(label) {
			return false
		}
	}
	return len(text) <= MaxName
}
