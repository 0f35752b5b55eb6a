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

// EndsInNumber reports whether the last label of a name is a number, decimal or
// hexadecimal. A URL with such a host is invalid unless the host is an IPv4
// address (WHATWG URL, "ends in a number checker").
func EndsInNumber(name string) bool {
	return isNumber(name[strings.LastIndexByte(name, '.')+1:])
}

// IsAddress reports whether programs take a name for an IPv4 address, as
// inet_aton(3) does, and therefore don't resolve it: 10.1, 127.0.0.1 and 0x7f.1.
func IsAddress(name string) bool {
	parts := 0
	for label := range strings.SplitSeq(name, ".") {
		if parts++; parts > 4 || !isNumber(label) {
			return false
		}
	}
	return true
}

// isNumber reports whether a label is a number in decimal, octal (0…) or
// hexadecimal (0x…) notation.
func isNumber(label string) bool {
	if digits, hex := strings.CutPrefix(label, "0x"); hex {
		return strings.Trim(digits, "0123456789abcdef") == ""
	}
	return label != "" && strings.Trim(label, "0123456789") == ""
}
