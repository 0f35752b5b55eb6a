package printable

import (
	"encoding/json"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

// hostile is text that changes what a terminal shows or does: a title, a control of
// ISO 6429's second set, a direction, a second line, a deletion, and bytes that aren't UTF-8.
const hostile = "a\x1b]0;title\x07b\u009b31mc\u202ed\r\ne\x7f\x9bf\u2066g\u200b"

func isRaw(text string) bool {
	return strings.ContainsAny(text, "\x1b\x07\u009b\u202e\r\x7f\u2066\u200b") || strings.Contains(text, "\x9bf")
}

func TestTextOfTerminalControls(t *testing.T) {
	if got := Text(hostile); isRaw(got) || strings.Contains(got, "\n") {
		t.Errorf("Text: got %q", got)
	}
	if got := string(Lines([]byte(hostile + "\t"))); isRaw(got) || strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "\t") {
		t.Errorf("Lines: got %q", got)
	}
	var b strings.Builder
	w := &Writer{Out: &b}
	text := hostile + "€é𝄞."
	for i := range len(text) { // characters are split
		if n, err := w.Write([]byte{text[i]}); n != 1 || err != nil {
			t.Fatalf("Write: got %d, %v", n, err)
		}
	}
	if got := b.String(); isRaw(got) || got != string(Lines([]byte(text))) {
		t.Errorf("Writer: got %q, want %q", got, Lines([]byte(text)))
	}
	encoded, err := json.Marshal(hostile + "\U000e0001")
	if err != nil {
		t.Fatal(err)
	}
	var before, after string
	if err := json.Unmarshal(encoded, &before); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(JSON(encoded), &after); err != nil || after != before || isRaw(string(JSON(encoded))) {
		t.Errorf("JSON: got %s, %v, want the value %q", JSON(encoded), err, before)
	}
}

func TestLine(t *testing.T) {
	for _, test := range []struct {
		text  string
		limit int
		want  string
	}{
		{"plain text", 20, "plain text"},
		{"two\nlines\r\n\tand a tab ", 40, "two lines and a tab"},
		{"\x1b[31mred\x1b[0m", 40, "[31mred [0m"},
		{"bad \xff byte", 40, "bad \uFFFD byte"},
		{"überlang", 4, "über…"},
		{"", 4, ""},
	} {
		if got := Line(test.text, test.limit); got != test.want {
			t.Errorf("Line(%q, %d): got %q, want %q", test.text, test.limit, got, test.want)
		}
	}
}

// A command that a person copies runs what it shows, and nothing else.
func TestShellWord(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no POSIX shell")
	}
	for _, text := range []string{
		"/home/ann/src/kubeshore.yaml", "/tmp/my shop/kubeshore.yaml", "/tmp/$(touch${IFS}pwned)/kubeshore.yaml", "/tmp/`id`", "it's", "a;b", "-x", "~ann", "a\\b", "*", "ü",
	} {
		word, ok := ShellWord(text)
		if !ok {
			t.Errorf("%q: got no word", text)
			continue
		}
		if got, err := exec.Command("sh", "-c", "printf %s "+word).Output(); err != nil || string(got) != text {
			t.Errorf("%q: the shell reads %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "a\nb", "a\x1b[31mb", "a\u202eb"} {
		if word, ok := ShellWord(text); ok {
			t.Errorf("%q: got %q, want none", text, word)
		}
	}
}
