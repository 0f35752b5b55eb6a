package dnsname

import (
	"strings"
	"testing"
)

func TestIsName(t *testing.T) {
	long := strings.Repeat("a", MaxLabel)
	for text, want := range map[string]bool{
		"web": true, "web.shop": true, "0": true, "a-b.c": true, long: true, long + "." + long: true,
		"": false, "Web": false, "-a": false, "a-": false, "a..b": false, "a.": false, ".a": false, "a_b": false,
		"a b": false, "a\nb": false, "ä": false, long + "a": false, strings.Repeat("a.", 126) + "aa": false,
	} {
		if got := IsName(text); got != want {
			t.Errorf("IsName(%q): got %v, want %v", text, got, want)
		}
		if got := IsLabel(text); got != (want && !strings.Contains(text, ".")) {
			t.Errorf("IsLabel(%q): got %v, want %v", text, got, !got)
		}
	}
}
