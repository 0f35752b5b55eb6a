// Package printable makes text from other machines and other users' processes
// safe to show in a terminal.
package printable

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
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

// ShellWord returns text as one word of a POSIX shell's command line, for a command that
// a person copies. ok is false if text has characters that are not printable.
func ShellWord(text string) (word string, ok bool) {
	if Text(text) != text || text == "" {
		return "", false
	}
	const harmless = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:,@%"
	if strings.Trim(text, harmless) == "" && text[0] != '-' {
		return text, true
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'", true
}

// Writer writes text to Out as [Lines] returns it. A character may be split between
// two writes.
type Writer struct {
	Out io.Writer

	rest []byte // the beginning of a character
}

// Write implements io.Writer.
func (w *Writer) Write(text []byte) (int, error) {
	all := slices.Concat(w.rest, text)
	end := len(all)
	for i := max(end-utf8.UTFMax+1, 0); i < end; i++ {
		if utf8.RuneStart(all[i]) && !utf8.FullRune(all[i:]) {
			end = i
		}
	}
	w.rest = bytes.Clone(all[end:])
	if _, err := w.Out.Write(Lines(all[:end])); err != nil {
		return 0, err
	}
	return len(text), nil
}

// Lines returns text with all characters that are not printable replaced by spaces,
// except newlines and tabs.
func Lines(text []byte) []byte {
	return bytes.Map(func(r rune) rune {
		if unicode.IsPrint(r) || r == '\n' || r == '\t' {
			return r
		}
		return ' '
	}, text)
}

// JSON returns JSON with all characters that are not printable as \uXXXX, which
// encoding/json does for some of them only. The value stays the same, because such
// characters are only in strings.
func JSON(text []byte) []byte {
	if bytes.IndexFunc(text, mustEscape) < 0 {
		return text
	}
	var b bytes.Buffer
	for _, r := range string(text) {
		if !mustEscape(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.Bytes()
}

func mustEscape(r rune) bool { return !unicode.IsPrint(r) && r != '\n' }
