package listen

import (
	"strings"
	"testing"
)

// What a process is called, whoever has called it so, is nothing but a word in a line.
func TestShownName(t *testing.T) {
	for name, want := range map[string]string{
		"nginx":                  "nginx",
		"\x1b[31mX\nroot: ok":    "[31mXroot: ok",
		"a\u202eb\u009b\xff":     "ab\ufffd",
		"\n\t":                   "",
		strings.Repeat("é", 100): strings.Repeat("é", maxName),
	} {
		if got := shown(name); got != want {
			t.Errorf("%q is shown as %q, not as %q", name, got, want)
		}
	}
}
