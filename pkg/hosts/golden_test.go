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

// Each archive is a hosts file (prev) and a table of names as its lines; what becomes of
// it (next), and of that without the block (back), follow. CR and what is no text stand
// as in Go's strings.
func TestRewriteGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/rewrite/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := golden(t, archive)
			want := archive.Files[2:]
			if *update {
				archive.Files = append(archive.Files[:2], got...)
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if have, wanted := txtar.Format(&txtar.Archive{Files: got}), txtar.Format(&txtar.Archive{Files: want}); string(have) != string(wanted) {
				t.Errorf("got:\n%s\nwant:\n%s", have, wanted)
			}
		})
	}
}

func golden(t *testing.T, archive *txtar.Archive) []txtar.File {
	t.Helper()
	prev := unquoted(t, archive.Files[0].Data)
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
		{Name: "next", Data: quoted(next)},
		{Name: "refused", Data: []byte(reasons.String())},
		{Name: "left alone", Data: []byte(suspects)},
		{Name: "back", Data: quoted(back)},
	}
}

// quoted makes a line of text of each line; the last one has no line end if it ends
// with a backslash.
func quoted(content []byte) []byte {
	var b strings.Builder
	for line := range strings.Lines(string(content)) {
		bare, ended := strings.CutSuffix(line, "\n")
		text := fmt.Sprintf("%q", bare)
		b.WriteString(strings.ReplaceAll(text[1:len(text)-1], `\"`, `"`))
		if !ended {
			b.WriteString(`\`)
		}
		b.WriteString("\n")
	}
	return []byte(b.String())
}

func unquoted(t *testing.T, text []byte) []byte {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		bare, unended := strings.CutSuffix(strings.TrimSuffix(line, "\n"), `\`)
		var content string
		if _, err := fmt.Sscanf(`"`+strings.ReplaceAll(bare, `"`, `\"`)+`"`, "%q", &content); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		b.WriteString(content)
		if !unended {
			b.WriteString("\n")
		}
	}
	return []byte(b.String())
}
