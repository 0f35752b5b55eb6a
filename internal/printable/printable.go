// Package printable makes text from other machines and other users' processes
// safe to show in a terminal.
package printable

import (
	"strings"
	"unicode"
)

// Line returns text as a single line of printable characters: white space and
// everything that is not printable, such as escape sequences, becomes single
// spaces. A line longer than limit runes is cut, and ends with "…".
func Line(text string, limit int) string {
	runes := []rune(strings.Join(strings.Fields(Text(text)), " "))
	if len(runes) > limit {
		return string(runes[:limit]) + "…"
	}
	return string(runes)
}

// Text returns text as a single line of printable characters: each other character,
// such as a newline, an escape, or a control of the text's direction, becomes a space.
func Text(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
}
