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

func TestNumericNames(t *testing.T) {
	for text, want := range map[string][2]bool{ // EndsInNumber, IsAddress
		"web": {false, false}, "web.1234": {true, false}, "web.0x1f": {true, false}, "web.0x": {true, false}, "web.1a": {false, false}, "1234.web": {false, false},
		"1": {true, true}, "10.20": {true, true}, "127.0.0.1": {true, true}, "0x7f.1": {true, true}, "1.2.3.4.5": {true, false}, "": {false, false},
	} {
		if got := [2]bool{EndsInNumber(text), IsAddress(text)}; got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}
