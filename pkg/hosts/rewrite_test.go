package hosts

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var (
	addr1     = netip.MustParseAddr("127.64.0.1")
	addr2     = netip.MustParseAddr("127.64.0.2")
	testTable = map[netip.Addr][]string{
		addr2: {"db.data.svc", "db.data"},
		addr1: {"go-ok.shop.svc", "go-ok.shop", "go-ok"},
	}
)

// testOwner is the owner of the blocks in these tests.
const testOwner = "1000"

var blockLines = beginMarker(testOwner) + `
127.64.0.1       go-ok.shop.svc go-ok.shop go-ok # kubeshore 1000
127.64.0.2       db.data.svc db.data # kubeshore 1000
` + endMarker(testOwner) + "\n"

// blockAfterNoEOL returns blockLines as they follow a line without a line ending.
func blockAfterNoEOL(prev string) string {
	return strings.Replace(blockLines, "\n", "\n"+noEOLLine([]byte(prev))+"\n", 1)
}

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func TestRewrite(t *testing.T) {
	for name, c := range map[string]struct{ prev, want string }{
		"empty":                  {"", blockLines},
		"usual":                  {"127.0.0.1 localhost\n", "127.0.0.1 localhost\n" + blockLines},
		"no last newline":        {"127.0.0.1 localhost", "127.0.0.1 localhost\n" + blockAfterNoEOL("127.0.0.1 localhost")},
		"CRLF":                   {"127.0.0.1 localhost\r\n", "127.0.0.1 localhost\r\n" + crlf(blockLines)},
		"CRLF, no last newline":  {"127.0.0.1 a\r\n# b", "127.0.0.1 a\r\n# b\r\n" + crlf(blockAfterNoEOL("# b"))},
		"tabs, latin-1, BOM":     {"\xef\xbb\xbf127.0.0.1\tlocalhost # caf\xe9\n\n", "\xef\xbb\xbf127.0.0.1\tlocalhost # caf\xe9\n\n" + blockLines},
		"a lone carriage return": {"a\r\nb\r", "a\r\nb\r\r\n" + crlf(blockAfterNoEOL("b\r"))},
	} {
		t.Run(name, func(t *testing.T) {
			next, changed, refused, err := Rewrite([]byte(c.prev), testOwner, testTable)
			if err != nil || len(refused) > 0 || string(next) != c.want || !changed {
				t.Fatalf("got %q, refused %v, error %v\nwant %q", next, refused, err, c.want)
			}
			if again, changed, _, err := Rewrite(next, testOwner, testTable); changed || err != nil {
				t.Errorf("rewritten again: got %q, error %v; want no change", again, err)
			}
			if back, changed, _, err := Rewrite(next, testOwner, nil); string(back) != c.prev || !changed || err != nil {
				t.Errorf("without the block: got %q, changed %v, error %v; want %q", back, changed, err, c.prev)
			}
		})
	}
}

func TestRewriteKeepsPosition(t *testing.T) {
	prev := "127.0.0.1 localhost\n" + blockLines + "10.0.0.1 written-later\n"
	next, _, _, err := Rewrite([]byte(prev), testOwner, map[netip.Addr][]string{addr1: {"new"}})
	want := "127.0.0.1 localhost\n" + beginMarker(testOwner) + "\n127.64.0.1       new # kubeshore 1000\n" + endMarker(testOwner) + "\n10.0.0.1 written-later\n"
	if string(next) != want || err != nil {
		t.Fatalf("got %q, %v\nwant %q", next, err, want)
	}
	if back, _, _, _ := Rewrite(next, testOwner, nil); string(back) != "127.0.0.1 localhost\n10.0.0.1 written-later\n" {
		t.Errorf("without the block: got %q, want %q", back, "127.0.0.1 localhost\n10.0.0.1 written-later\n")
	}
}

// A line that was appended after the block remains a separate line.
func TestRewriteNoEOLThenAppendedLine(t *testing.T) {
	next, _, _, err := Rewrite([]byte("127.0.0.1 localhost"), testOwner, testTable)
	if err != nil {
		t.Fatal(err)
	}
	back, _, _, err := Rewrite(append(next, "10.0.0.1 appended\n"...), testOwner, nil)
	if want := "127.0.0.1 localhost\n10.0.0.1 appended\n"; string(back) != want || err != nil {
		t.Errorf("without the block: got %q, error %v; want %q", back, err, want)
	}
}

// A line that was inserted before the block keeps its line ending.
func TestRewriteNoEOLThenInsertedLine(t *testing.T) {
	next, _, _, err := Rewrite([]byte("127.0.0.1 localhost"), testOwner, testTable)
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.Replace(string(next), "localhost\n", "localhost\n10.0.0.1 inserted\n", 1)
	back, _, _, err := Rewrite([]byte(edited), testOwner, nil)
	if want := "127.0.0.1 localhost\n10.0.0.1 inserted\n"; string(back) != want || err != nil {
		t.Errorf("without the block: got %q, error %v; want %q", back, err, want)
	}
}

func TestRewriteWithoutNamesChangesNothing(t *testing.T) {
	for _, prev := range []string{"", "127.0.0.1 localhost\n", "no newline"} {
		if next, changed, _, err := Rewrite([]byte(prev), testOwner, nil); changed || err != nil {
			t.Errorf("%q: got %q, error %v; want no change", prev, next, err)
		}
	}
}

func TestRewriteRefusesNames(t *testing.T) {
	prev := "127.0.0.1 localhost\n192.0.2.1\tMine other. # taken\n# 192.0.2.2 commented\nthis is good\n"
	invalid := []string{
		"localhost", "x.localhost", "mine", "other", "", "a b", "a\n192.0.2.9 bank", "a#b", "a\x00b", "-a", "a-", "a..b",
		"UPPER", "under_score", strings.Repeat("a", 64), strings.Repeat("a.", 130) + "a",
	}
	names := append([]string{"good", "commented"}, invalid...)
	next, _, refused, err := Rewrite([]byte(prev), testOwner, map[netip.Addr][]string{addr1: names})
	want := prev + beginMarker(testOwner) + "\n127.64.0.1       good commented # kubeshore 1000\n" + endMarker(testOwner) + "\n"
	if string(next) != want || err != nil {
		t.Errorf("got %q, %v\nwant %q", next, err, want)
	}
	for _, name := range invalid {
		if refused[name] == nil {
			t.Errorf("%q is not refused", name)
		}
	}
	if len(refused) != len(invalid) {
		t.Errorf("refused: got %v, want %q", refused, invalid)
	}
}

// The remains of a damaged block are recognized. All other lines are preserved, including
// those that look like kubeshore's.
func TestRewriteDamagedBlock(t *testing.T) {
	begin, end := beginMarker(testOwner)+"\n", endMarker(testOwner)+"\n"
	other := strings.ReplaceAll(blockLines, testOwner, "1001")
	const entry, mine = "127.64.0.1       a # kubeshore 1000\n", "127.1.27.1       web web.shop\n127.1.2.3\tMy-Box\n127.0.1.1 laptop\n"
	for name, c := range map[string]struct{ prev, want string }{
		"no end":                  {mine + begin + entry + entry + mine, mine + mine},
		"no begin":                {mine + entry + entry + end + mine, mine + mine},
		"neither":                 {mine + entry + mine + entry, mine + mine},
		"begin alone":             {mine + begin + mine, mine + mine},
		"end alone":               {mine + end + mine, mine + mine},
		"twice":                   {blockLines + mine + blockLines, mine},
		"begun twice":             {begin + blockLines, ""},
		"others' lines inside":    {begin + entry + mine + entry + end, mine},
		"another owner's":         {blockLines + other + begin + entry, other},
		"no end before another's": {begin + entry + other, other},
		"truncated marker":        {mine + "# BEGIN kubeshore 1000\n" + entry + "# END kubeshore\n", mine + "# BEGIN kubeshore 1000\n# END kubeshore\n"},
		"empty lines inside":      {mine + begin + entry + "\n\n\n" + end + "\n" + mine, mine + "\n" + mine},
		"empty lines around":      {"\n" + blockLines + "\n", "\n\n"},
		"two lines in one":        {begin + "127.64.07.64.0.2       b # kubeshore 1000\n" + end, ""},
		"half a line":             {begin + "7.64.0.2       b # kubeshore 1000\n" + end, ""},
		"ends in an address":      {mine + begin + entry + "127.6", mine},
		"ends in a name":          {mine + begin + entry + "127.64.0.2       db.da", mine},
		"ends in the marker":      {mine + begin + entry + "# END kube", mine},
		"then user's line":        {mine + begin + entry + "127.0.1.1 laptop", mine + "127.0.1.1 laptop"},
		"then a comment":          {mine + begin + entry + "# mine", mine + "# mine"},
		"truncated, with EOL":     {mine + begin + entry + "127.64.0.2       db.da\n", mine + "127.64.0.2       db.da\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if back, _, _, err := Rewrite([]byte(c.prev), testOwner, nil); string(back) != c.want || err != nil {
				t.Errorf("without the block: got %q, error %v; want %q", back, err, c.want)
			}
			next, _, _, err := Rewrite([]byte(c.prev), testOwner, testTable)
			if err != nil {
				t.Fatal(err)
			}
			if back, _, _, err := Rewrite(next, testOwner, nil); string(back) != c.want || err != nil {
				t.Errorf("replaced by a new block, then removed: got %q, error %v; want %q", back, err, c.want)
			}
		})
	}
}

// Two owners have separate blocks. A name that the first one has is refused to the second.
func TestRewriteTwoOwners(t *testing.T) {
	first, _, _, err := Rewrite([]byte("127.0.0.1 localhost"), "1001", testTable)
	if err != nil {
		t.Fatal(err)
	}
	both, _, refused, err := Rewrite(first, testOwner, map[netip.Addr][]string{addr1: {"go-ok", "mine"}})
	if err != nil || len(refused) != 1 || refused["go-ok"] == nil {
		t.Fatalf("got refused %v, error %v; want go-ok refused", refused, err)
	}
	if back, _, _, err := Rewrite(both, testOwner, nil); !bytes.Equal(back, first) || err != nil {
		t.Errorf("without the second block: got %q, error %v; want %q", back, err, first)
	}
	if got := owners(both); !slices.Equal(got, []string{"1001", testOwner}) {
		t.Errorf("owners: got %v, want 1001 and %s", got, testOwner)
	}
}

// The missing line ending of the last line is restored, whichever of two blocks is removed
// first.
func TestRewriteTwoOwnersNoEOL(t *testing.T) {
	for name, order := range map[string][]string{"first block first": {testOwner, "1001"}, "second block first": {"1001", testOwner}} {
		t.Run(name, func(t *testing.T) {
			for _, prev := range []string{"127.0.0.1 localhost", "127.0.0.1 localhost\r\n# mine"} {
				content := []byte(prev)
				var err error
				for i, owner := range []string{testOwner, "1001"} {
					if content, _, _, err = Rewrite(content, owner, map[netip.Addr][]string{addr1: {fmt.Sprint("n", i)}}); err != nil {
						t.Fatal(err)
					}
				}
				for _, owner := range order {
					if content, _, _, err = Rewrite(content, owner, nil); err != nil {
						t.Fatal(err)
					}
				}
				if string(content) != prev {
					t.Errorf("got %q, want %q", content, prev)
				}
			}
		})
	}
}

// BenchmarkRenderOneAddress measures the cost per name if one address has very many.
func BenchmarkRenderOneAddress(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			names := make([]string, n)
			for i := range names {
				names[i] = fmt.Sprintf("host-%d.example.com", i)
			}
			for b.Loop() {
				if _, _, err := renderLines(map[netip.Addr][]string{addr1: names}, testOwner, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/name")
		})
	}
}

// foreignLines returns the lines of a file that have nothing of kubeshore in them, with their
// line endings. It leaves out empty lines, and a last line without a line ending.
func foreignLines(content []byte) (lines []string) {
	for line := range strings.Lines(string(content)) {
		if !strings.Contains(line, "kubeshore") && !strings.HasPrefix(line, noEOLPrefix) && strings.TrimRight(line, "\r\n") != "" && strings.HasSuffix(line, "\n") {
			lines = append(lines, line)
		}
	}
	return lines
}

// keepsForeignLines reports whether prev and next have the same foreign lines in the same
// order. next may have one more: the last line of prev, with a line ending added.
func keepsForeignLines(prev, next []byte) bool {
	before, after := foreignLines(prev), foreignLines(next)
	return slices.Equal(before, after) || len(after) == len(before)+1 && slices.Equal(before, after[:len(before)])
}

// For any file, removing the block restores it byte for byte, and nothing outside the block
// changes.
func FuzzRewrite(f *testing.F) {
	f.Add([]byte("127.0.0.1 localhost\n"), "go-ok.shop")
	f.Add([]byte("a\r\nb\r"), "x")
	f.Add([]byte(blockLines), "db")
	f.Add([]byte("1"+blockLines+"\x00"), "a\nb")
	f.Add([]byte("\xef\xbb\xbf127.0.0.1\tlocalhost # caf\xe9\r\n"+strings.ReplaceAll(blockLines, testOwner, "1001")), "db")
	f.Add([]byte(strings.Repeat("# long ", 60)+"\n"+beginMarker(testOwner)+"\n127.64.0.1 a # kubeshore 1000\n"), "db")
	f.Add([]byte("127.64.0.1 a\n"+endMarker(testOwner)+"\n127.0.1.1 laptop"), "laptop")
	f.Add([]byte(beginMarker(testOwner)+"\n127.64.0.1 a # kubeshore 1000\n\n\n127.64.0."), "x")
	f.Add([]byte("127.0.0.1 localhost\n192.0.2.1 web.shop.svc.cluster.local.\n"), "web.shop.svc.cluster.local")
	f.Add([]byte("127.0.0.1 localhost"), strings.Repeat("a", 63)+"."+strings.Repeat("b", 63)+".svc.cluster.local")
	f.Fuzz(func(t *testing.T, prev []byte, name string) {
		names := map[netip.Addr][]string{addr1: {name, "sure.example"}}
		next, changed, _, err := Rewrite(prev, testOwner, names)
		if err != nil {
			t.Fatal(err)
		}
		if !keepsForeignLines(prev, next) {
			t.Fatalf("foreign lines changed: from %q to %q", prev, next)
		}
		if !bytes.Contains(prev, []byte("kubeshore")) {
			if !bytes.HasPrefix(next, prev) {
				t.Fatalf("got %q, want it to start with %q", next, prev)
			}
			if back, _, _, err := Rewrite(next, testOwner, nil); !bytes.Equal(back, prev) || err != nil {
				t.Fatalf("without the block: got %q from %q, error %v; want %q", back, next, err, prev)
			}
		}
		if !changed {
			return // the file already has the block
		}
		if again, changed, _, err := Rewrite(next, testOwner, names); changed || err != nil {
			t.Fatalf("rewritten again: got %q, error %v; want %q", again, err, next)
		}
		withoutBlock, _, _, err := Rewrite(prev, testOwner, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !keepsForeignLines(prev, withoutBlock) {
			t.Fatalf("foreign lines changed without the block: from %q to %q", prev, withoutBlock)
		}
		if back, changed, _, err := Rewrite(next, testOwner, nil); !bytes.Equal(back, withoutBlock) || !changed || err != nil {
			t.Fatalf("without the block: got %q, changed %v, error %v; want %q", back, changed, err, withoutBlock)
		}
	})
}
