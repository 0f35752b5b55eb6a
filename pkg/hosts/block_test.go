package hosts

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// splitBlock finds the same lines as ownedLines does if it gets all lines of the file.
func TestSplitBlockFindsAllOwnedLines(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	other := strings.ReplaceAll(blockLines, testOwner, "1001")
	pieces := []string{
		blockLines, crlf(blockLines), other, beginMarker(testOwner) + "\n", endMarker(testOwner) + "\n", "127.64.0.1       a # kubeshore 1000\n",
		"127.64.0.2       db.da\n", "127.6", "00\n", "\n", "\r\n", "\n\n\n", "10.0.0.1 theirs\n", "0.0.0.0 ads.example.com\n", "# mine", "# BEGIN kube", "# kubeshore 1000 ",
	}
	for range 20_000 {
		var all strings.Builder
		for range random.IntN(7) {
			all.WriteString(pieces[random.IntN(len(pieces))])
		}
		content := []byte(all.String())
		lines := bytes.SplitAfter(content, []byte("\n"))
		owned := ownedLines(lines, testOwner)
		want := []byte{}
		for i, line := range lines {
			if !owned[i] {
				want = append(want, line...)
			}
		}
		got := splitBlock(content, testOwner)
		if !bytes.Equal(got.rest(), want) || got.found != slices.Contains(owned, true) {
			t.Fatalf("%q: got rest %q, found %v; want %q", content, got.rest(), got.found, want)
		}
	}
}

// takenNames finds the same names as a parser of the complete file.
func TestTakenNames(t *testing.T) {
	content := "127.0.0.1 localhost\n192.0.2.1\tMINE other. # taken\r\n# 192.0.2.2 commented\nthis is good\n\xef\xbb\xbf192.0.2.3 bom\n" +
		"192.0.2.4 a b c\n0.0.0.0 xmine mine.x\n192.0.2.5 last"
	names := make(map[string]bool)
	for name := range strings.FieldsSeq("mine other taken commented is good bom b last absent") {
		names[name] = true
	}
	got, err := takenNames([]byte(content), names)
	addresses := make(map[string]string)
	for name, by := range got {
		addresses[name] = by.Address
	}
	want := map[string]string{"mine": "192.0.2.1", "other": "192.0.2.1", "b": "192.0.2.4", "last": "192.0.2.5", "bom": "\ufeff192.0.2.3"}
	if err != nil || !maps.Equal(addresses, want) {
		t.Errorf("got %q, error %v; want %q", addresses, err, want)
	}
}

// blocklist returns a hosts file of about the given size.
func blocklist(size int) []byte {
	content := []byte("127.0.0.1 localhost\n")
	for i := 0; len(content) < size; i++ {
		content = fmt.Appendf(content, "0.0.0.0 ads%d.track.example.com\n", i)
	}
	return content
}

// The lines of a blocklist are neither parsed nor copied one by one.
func TestBlocklistIsNotParsed(t *testing.T) {
	content := blocklist(4_000_000)
	allocations := testing.AllocsPerRun(1, func() {
		if _, _, _, err := Rewrite(content, testOwner, testTable); err != nil {
			t.Fatal(err)
		}
	})
	if lines := bytes.Count(content, []byte("\n")); allocations > 1000 {
		t.Errorf("got %v allocations for %d lines, want less than 1000", allocations, lines)
	}
}

func BenchmarkSetBlocklist(b *testing.B) {
	path := filepath.Join(b.TempDir(), "hosts")
	if err := os.WriteFile(path, blocklist(12_000_000), 0o644); err != nil {
		b.Fatal(err)
	}
	f, err := Open(path, testOwner)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := f.Set(b.Context(), map[netip.Addr][]string{addr1: {fmt.Sprint("n", i)}}); err != nil {
			b.Fatal(err)
		}
	}
}
