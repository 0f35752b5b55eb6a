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
	addr1 = netip.MustParseAddr("127.64.0.1")
	addr2 = netip.MustParseAddr("127.64.0.2")
	table = map[netip.Addr][]string{
		addr2: {"db.data.svc", "db.data"},
		addr1: {"go-ok.shop.svc", "go-ok.shop", "go-ok"},
	}
)

// me owns the blocks of these tests.
const me = "1000"

var blockLines = beginMarker(me) + `
127.64.0.1       go-ok.shop.svc go-ok.shop go-ok
127.64.0.2       db.data.svc db.data
` + endMarker(me) + "\n"

// endless is the block after a line that had no end.
func endless(prev string) string {
	return strings.Replace(blockLines, "\n", "\n"+unendedLine([]byte(prev))+"\n", 1)
}

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func TestRewrite(t *testing.T) {
	for name, c := range map[string]struct{ prev, want string }{
		"empty":                  {"", blockLines},
		"usual":                  {"127.0.0.1 localhost\n", "127.0.0.1 localhost\n" + blockLines},
		"no last newline":        {"127.0.0.1 localhost", "127.0.0.1 localhost\n" + endless("127.0.0.1 localhost")},
		"CRLF":                   {"127.0.0.1 localhost\r\n", "127.0.0.1 localhost\r\n" + crlf(blockLines)},
		"CRLF, no last newline":  {"127.0.0.1 a\r\n# b", "127.0.0.1 a\r\n# b\r\n" + crlf(endless("# b"))},
		"tabs, latin-1, BOM":     {"\xef\xbb\xbf127.0.0.1\tlocalhost # caf\xe9\n\n", "\xef\xbb\xbf127.0.0.1\tlocalhost # caf\xe9\n\n" + blockLines},
		"a lone carriage return": {"a\r\nb\r", "a\r\nb\r\r\n" + crlf(endless("b\r"))},
	} {
		t.Run(name, func(t *testing.T) {
			next, changed, refused, err := Rewrite([]byte(c.prev), me, table)
			if err != nil || len(refused) > 0 || string(next) != c.want || !changed {
				t.Fatalf("got %q, %v, %v\nwant %q", next, refused, err, c.want)
			}
			if again, changed, _, err := Rewrite(next, me, table); changed || err != nil {
				t.Errorf("a second time it makes %q, %v; want nothing to do", again, err)
			}
			if back, changed, _, err := Rewrite(next, me, nil); string(back) != c.prev || !changed || err != nil {
				t.Errorf("taken back it is %q, %v, %v; want %q", back, changed, err, c.prev)
			}
		})
	}
}

func TestRewriteReplacesInPlace(t *testing.T) {
	prev := "127.0.0.1 localhost\n" + blockLines + "10.0.0.1 written-later\n"
	next, _, _, err := Rewrite([]byte(prev), me, map[netip.Addr][]string{addr1: {"new"}})
	want := "127.0.0.1 localhost\n" + beginMarker(me) + "\n127.64.0.1       new\n" + endMarker(me) + "\n10.0.0.1 written-later\n"
	if string(next) != want || err != nil {
		t.Fatalf("got %q, %v\nwant %q", next, err, want)
	}
	if back, _, _, _ := Rewrite(next, me, nil); string(back) != "127.0.0.1 localhost\n10.0.0.1 written-later\n" {
		t.Errorf("taken back it is %q", back)
	}
}

// What was appended while the block stood stays a line of its own.
func TestRewriteAppendedToAFileWithoutLastNewline(t *testing.T) {
	next, _, _, err := Rewrite([]byte("127.0.0.1 localhost"), me, table)
	if err != nil {
		t.Fatal(err)
	}
	back, _, _, err := Rewrite(append(next, "10.0.0.1 appended\n"...), me, nil)
	if want := "127.0.0.1 localhost\n10.0.0.1 appended\n"; string(back) != want || err != nil {
		t.Errorf("taken back it is %q, %v; want %q", back, err, want)
	}
}

// A line that the user put in before the block keeps its end.
func TestRewriteInsertedAfterAFileWithoutLastNewline(t *testing.T) {
	next, _, _, err := Rewrite([]byte("127.0.0.1 localhost"), me, table)
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.Replace(string(next), "localhost\n", "localhost\n10.0.0.1 inserted\n", 1)
	back, _, _, err := Rewrite([]byte(edited), me, nil)
	if want := "127.0.0.1 localhost\n10.0.0.1 inserted\n"; string(back) != want || err != nil {
		t.Errorf("taken back it is %q, %v; want %q", back, err, want)
	}
}

func TestRewriteNothingToDo(t *testing.T) {
	for _, prev := range []string{"", "127.0.0.1 localhost\n", "no newline"} {
		if next, changed, _, err := Rewrite([]byte(prev), me, nil); changed || err != nil {
			t.Errorf("%q: got %q, %v", prev, next, err)
		}
	}
}

func TestRewriteRefusesNames(t *testing.T) {
	prev := "127.0.0.1 localhost\n192.0.2.1\tMine other. # taken\n# 192.0.2.2 commented\n"
	bad := []string{
		"localhost", "x.localhost", "mine", "other", "", "a b", "a\n192.0.2.9 bank", "a#b", "a\x00b", "-a", "a-", "a..b",
		"UPPER", "under_score", strings.Repeat("a", 64), strings.Repeat("a.", 130) + "a",
	}
	names := append([]string{"good", "commented"}, bad...)
	next, _, refused, err := Rewrite([]byte(prev), me, map[netip.Addr][]string{addr1: names})
	want := prev + beginMarker(me) + "\n127.64.0.1       good commented\n" + endMarker(me) + "\n"
	if string(next) != want || err != nil {
		t.Errorf("got %q, %v\nwant %q", next, err, want)
	}
	for _, name := range bad {
		if refused[name] == nil {
			t.Errorf("%q is not refused", name)
		}
	}
	if len(refused) != len(bad) {
		t.Errorf("refused %v", refused)
	}
}

// Of a damaged block those lines are known that look like it and stand next to what
// is left of it. All else is left alone.
func TestRewriteDamagedBlock(t *testing.T) {
	begin, end := beginMarker(me)+"\n", endMarker(me)+"\n"
	other := strings.ReplaceAll(blockLines, me, "1001")
	const entry, mine = "127.64.0.1 a\n", "127.0.1.1 laptop\n"
	for name, c := range map[string]struct{ prev, want string }{
		"no end":                    {mine + begin + entry + entry + "10.0.0.1 later\n" + entry, mine + "10.0.0.1 later\n" + entry},
		"no begin":                  {mine + entry + "# a comment\n" + entry + entry + end + mine, mine + entry + "# a comment\n" + mine},
		"neither":                   {mine + entry, mine + entry},
		"no end, then the system's": {begin + entry + mine, mine},
		"twice":                     {blockLines + mine + blockLines, mine},
		"begun twice":               {begin + blockLines, ""},
		"another's line inside":     {begin + entry + "10.0.0.1 vpn\n" + entry + end, "10.0.0.1 vpn\n"},
		"local ones":                {begin + "127.0.0.1 api\n" + end, ""},
		"another owner's":           {blockLines + other + begin + entry, other},
		"no end before another's":   {begin + entry + other, other},
		"local ones, no end":        {begin + "127.0.0.1        api.shop.svc.cluster.local api\n" + entry + mine, mine},
		"local ones, no begin":      {"127.0.0.1        localhost\n127.0.0.1        api.shop.svc.cluster.local api\n" + entry + end, "127.0.0.1        localhost\n"},
		"end cut off":               {mine + begin + entry + "# END kubeshore", mine + "# END kubeshore"},
	} {
		t.Run(name, func(t *testing.T) {
			if back, _, _, err := Rewrite([]byte(c.prev), me, nil); string(back) != c.want || err != nil {
				t.Errorf("taken back it is %q, %v; want %q", back, err, c.want)
			}
			next, _, _, err := Rewrite([]byte(c.prev), me, table)
			if err != nil {
				t.Fatal(err)
			}
			if back, _, _, err := Rewrite(next, me, nil); string(back) != c.want || err != nil {
				t.Errorf("with a new block in its place, and without that, it is %q, %v; want %q", back, err, c.want)
			}
		})
	}
}

// Two owners have a block each, and no name twice.
func TestRewriteTwoOwners(t *testing.T) {
	first, _, _, err := Rewrite([]byte("127.0.0.1 localhost"), "1001", table)
	if err != nil {
		t.Fatal(err)
	}
	both, _, refused, err := Rewrite(first, me, map[netip.Addr][]string{addr1: {"go-ok", "mine"}})
	if err != nil || len(refused) != 1 || refused["go-ok"] == nil {
		t.Fatal(refused, err)
	}
	if back, _, _, err := Rewrite(both, me, nil); !bytes.Equal(back, first) || err != nil {
		t.Errorf("without the second it is %q, %v; want %q", back, err, first)
	}
	if got := owners(both); !slices.Equal(got, []string{"1001", me}) {
		t.Errorf("owners %v", got)
	}
}

// A system that reads a number of names of a line only has more lines.
func TestRenderLines(t *testing.T) {
	names := make([]string, 20)
	for i := range names {
		names[i] = fmt.Sprintf("n%d", i)
	}
	for perLine, want := range map[int]string{9: "9 9 2", -1: "20"} {
		text, _, err := render(map[netip.Addr][]string{addr1: names}, nil, perLine)
		var got, all []string
		for line := range strings.Lines(text) {
			fields := strings.Fields(line)
			got, all = append(got, strconv.Itoa(len(fields)-1)), append(all, fields[1:]...)
		}
		if err != nil || strings.Join(got, " ") != want || !slices.Equal(all, names) {
			t.Errorf("%d a line: lines of %v names, %v, %v", perLine, got, all, err)
		}
	}
}

// survives tells whether all lines of a file that can't be ours are in another one, in
// their order, and whether that has nothing else but lines that are.
func survives(prev, next []byte) bool {
	theirs := func(content []byte) (lines []string) {
		for line := range bytes.Lines(content) {
			text := string(bytes.TrimRight(line, "\r\n"))
			if !isEntry(text, true) && text != beginMarker(me) && text != endMarker(me) {
				lines = append(lines, text)
			}
		}
		return lines
	}
	return slices.Equal(theirs(prev), theirs(next))
}

// Whatever the file holds: what is put in can be taken out again, byte for
// byte, and nothing outside the block changes.
func FuzzRewrite(f *testing.F) {
	f.Add([]byte("127.0.0.1 localhost\n"), "go-ok.shop")
	f.Add([]byte("a\r\nb\r"), "x")
	f.Add([]byte(blockLines), "db")
	f.Add([]byte("1"+blockLines+"\x00"), "a\nb")
	f.Add([]byte("\xef\xbb\xbf127.0.0.1\tlocalhost # caf\xe9\r\n"+strings.ReplaceAll(blockLines, me, "1001")), "db")
	f.Add([]byte(strings.Repeat("# long ", 20000)+"\n"+beginMarker(me)+"\n127.64.0.1 a\n"), "db")
	f.Add([]byte("127.64.0.1 a\n"+endMarker(me)+"\n127.0.1.1 laptop"), "laptop")
	f.Fuzz(func(t *testing.T, prev []byte, name string) {
		table := map[netip.Addr][]string{addr1: {name, "sure.example"}}
		next, changed, _, err := Rewrite(prev, me, table)
		if err != nil {
			t.Fatal(err)
		}
		if !survives(prev, next) {
			t.Fatalf("lines that aren't ours: %q became %q", prev, next)
		}
		if !changed {
			return // as it should be already
		}
		if again, changed, _, err := Rewrite(next, me, table); changed || err != nil {
			t.Fatalf("not idempotent: %q, %v", again, err)
		}
		bare, _, _, err := Rewrite(prev, me, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !survives(prev, bare) {
			t.Fatalf("lines that aren't ours, without a block: %q became %q", prev, bare)
		}
		if back, changed, _, err := Rewrite(next, me, nil); !bytes.Equal(back, bare) || !changed || err != nil {
			t.Fatalf("taken back: %q, %v, %v; want %q", back, changed, err, bare)
		}
	})
}
