package listen

import (
	"strings"
	"testing"
)

func TestProcessNameIsPrintable(t *testing.T) {
	for name, want := range map[string]string{
		"nginx":                  "nginx",
		"\x1b[31mX\nroot: ok":    "[31mX root: ok",
		"a\u202eb\u009b\xff":     "a b \ufffd",
		"\n\t":                   "",
		strings.Repeat("é", 100): strings.Repeat("é", maxProcessName) + "…",
	} {
		if got := printableName(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}
