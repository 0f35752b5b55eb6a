package hosts

import (
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the golden files")

// Each archive starts with a hosts file (prev) and a table with an address and its names on
// each line. Then come the results: the rewritten file (next), the refused names, the lines
// that were left alone, and next without the block (back). Carriage returns and bytes that
// aren't text are escaped as in Go strings.
func TestRewriteGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/rewrite/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("got golden files %v, error %v", paths, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			results := rewriteArchive(t, archive)
			if *update {
				archive.Files = append(archive.Files[:2], results...)
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			got := txtar.Format(&txtar.Archive{Files: results})
			want := txtar.Format(&txtar.Archive{Files: archive.Files[2:]})
			if string(got) != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// rewriteArchive returns the results for the first two files of an archive.
func rewriteArchive(t *testing.T, archive *txtar.Archive) []txtar.File {
	t.Helper()
	prev := unquote(t, archive.Files[0].Data)
	names := make(map[netip.Addr][]string)
	for line := range strings.Lines(string(archive.Files[1].Data)) {
		fields := strings.Fields(line)
		names[netip.MustParseAddr(fields[0])] = fields[1:]
	}
	next, _, refused, err := Rewrite(prev, testOwner, names)
	if err != nil {
		t.Fatal(err)
	}
	back, _, _, err := Rewrite(next, testOwner, nil)
	if err != nil {
		t.Fatal(err)
	}
	var reasons strings.Builder
	for _, name := range slices.Sorted(maps.Keys(refused)) {
		fmt.Fprintf(&reasons, "%s: %v\n", name, refused[name])
	}
	suspects := strings.Join(append(suspectLines(next), ""), "\n")
	return []txtar.File{
		{Name: "next", Data: quote(next)},
		{Name: "refused", Data: []byte(reasons.String())},
		{Name: "left alone", Data: []byte(suspects)},
		{Name: "back", Data: quote(back)},
	}
}

// quote escapes each line of content. A backslash at the end of the last line means that it
// has no line ending.
func quote(content []byte) []byte {
	var b strings.Builder
	for line := range strings.Lines(string(content)) {
		text, ended := strings.CutSuffix(line, "\n")
		escaped := fmt.Sprintf("%q", text)
		b.WriteString(strings.ReplaceAll(escaped[1:len(escaped)-1], `\"`, `"`))
		if !ended {
			b.WriteString(`\`)
		}
		b.WriteString("\n")
	}
	return []byte(b.String())
}

// unquote reverses quote.
func unquote(t *testing.T, text []byte) []byte {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		escaped, noEOL := strings.CutSuffix(strings.TrimSuffix(line, "\n"), `\`)
		var content string
		if _, err := fmt.Sscanf(`"`+strings.ReplaceAll(escaped, `"`, `\"`)+`"`, "%q", &content); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		b.WriteString(content)
		if !noEOL {
			b.WriteString("\n")
		}
	}
	return []byte(b.String())
}
