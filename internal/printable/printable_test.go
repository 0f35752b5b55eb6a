package printable

import "testing"

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
