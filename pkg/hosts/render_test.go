package hosts

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/kubeshore/kubeshore/internal/netaddr"
)

// ownNames returns the names of a Service of the first namespace.
func ownNames(service, namespace string) []string {
	short := service + "." + namespace
	return []string{short + serviceSuffix, short + ".svc", short, service}
}

// userNames returns n names of about the given length.
func userNames(n, length int) (names []string) {
	for i := range n {
		suffix := fmt.Sprintf("%d.test", i)
		names = append(names, strings.Repeat("n.", (length-len(suffix))/2)+suffix)
	}
	return names
}

// No line exceeds the limits of any system. Each name is there once, in the order of the
// table; a Service's canonical name is also there with a trailing dot. The canonical name of
// a Service's own names is its first one, as long as they fit one line.
func TestLinesAreReadableOnEverySystem(t *testing.T) {
	for name, c := range map[string]struct {
		addr  netip.Addr
		names []string
		lines int // 0 if it isn't checked
	}{
		"a Service":                    {addr1, ownNames("web", "shop"), 1},
		"twelve long names":            {addr1, slices.Concat(ownNames("web", "shop"), userNames(12, 47)), 0},
		"nine names":                   {addr1, slices.Concat(ownNames("web", "shop"), userNames(4, 9)), 1},
		"ten names":                    {addr1, slices.Concat(ownNames("web", "shop"), userNames(5, 9)), 2},
		"very many names":              {addr1, userNames(300, 20), 0},
		"own names as long as a line":  {addr1, ownNames(strings.Repeat("a", 24), strings.Repeat("b", 12)), 2},
		"longest Service":              {addr1, ownNames(strings.Repeat("a", 63), strings.Repeat("b", 63)), 0},
		"longest name":                 {addr1, userNames(3, 220), 3},
		"an alias of another Service":  {addr1, slices.Concat(ownNames("web", "shop"), ownNames("old", "data")[:3]), 1},
		"Services on this machine":     {netaddr.Localhost, slices.Concat(ownNames("web", "shop"), ownNames("db", "data")), 2},
		"Service of another context":   {addr1, []string{"web.shop.svc.eu", "web.shop.eu"}, 1},
		"the longest address and user": {netip.MustParseAddr("127.255.255.254"), userNames(20, 40), 0},
	} {
		t.Run(name, func(t *testing.T) {
			owner := "s-1-5-21-1004336348-1177238915-682003330-1013"
			text, refused, err := renderLines(map[netip.Addr][]string{c.addr: c.names}, owner, nil)
			if err != nil || len(refused) > 0 {
				t.Fatalf("refused %v, error %v; want none", refused, err)
			}
			var got, gotAbsolute []string
			lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
			for _, line := range lines {
				named, _, _ := strings.Cut(line, "#")
				names := strings.Fields(named)[1:]
				if len(names) > 9 || len(line) > 255 && len(names) > 1 {
					t.Errorf("line of %d bytes with %d names: %s", len(line), len(names), line)
				}
				absolute := slices.IndexFunc(append(names, "."), isAbsolute)
				got, gotAbsolute = append(got, names[:absolute]...), append(gotAbsolute, names[absolute:]...)
			}
			var wantAbsolute []string
			for _, name := range c.names {
				if strings.HasSuffix(name, ".svc.cluster.local") {
					wantAbsolute = append(wantAbsolute, name+".")
				}
			}
			if !slices.Equal(got, c.names) || !slices.Equal(gotAbsolute, wantAbsolute) {
				t.Errorf("got names %q and %q, want %q and %q", got, gotAbsolute, c.names, wantAbsolute)
			}
			if c.lines > 0 && len(lines) != c.lines {
				t.Errorf("got %d lines, want %d:\n%s", len(lines), c.lines, text)
			}
		})
	}
}

// A name that another line has is refused in both forms.
func TestAbsoluteNameOfAnotherLine(t *testing.T) {
	for _, theirs := range []string{"web.shop.svc.cluster.local", "web.shop.svc.cluster.local."} {
		rest := []byte("192.0.2.1 " + theirs + "\n")
		text, refused, err := renderLines(map[netip.Addr][]string{addr1: ownNames("web", "shop")}, testOwner, rest)
		if want := "127.64.0.1       web.shop.svc web.shop web # kubeshore 1000\n"; text != want || len(refused) != 1 || err != nil {
			t.Errorf("%s: got %q, refused %v, error %v; want %q", theirs, text, refused, err, want)
		}
	}
}
