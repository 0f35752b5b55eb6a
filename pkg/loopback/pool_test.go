package loopback

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// automatic returns keys with automatic addresses.
func automatic(from, to int) map[string]netip.Addr {
	result := make(map[string]netip.Addr, to-from)
	for i := from; i < to; i++ {
		result[fmt.Sprintf("ns/svc-%d//ctx", i)] = netip.Addr{}
	}
	return result
}

func newPool(t *testing.T, prefix string) *Pool {
	t.Helper()
	p, err := NewPool([]netip.Prefix{netip.MustParsePrefix(prefix)}, "me", nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func assign(t *testing.T, p *Pool, keys map[string]netip.Addr) map[string]netip.Addr {
	t.Helper()
	assigned, problems := p.Assign(keys)
	if len(problems) > 0 {
		t.Fatalf("got problems %v, want none", problems)
	}
	if len(assigned) != len(keys) {
		t.Fatalf("got %d addresses, want %d", len(assigned), len(keys))
	}
	seen := make(map[netip.Addr]string)
	for key, addr := range assigned {
		if other, ok := seen[addr]; ok {
			t.Errorf("%s and %s have the same address %v", key, other, addr)
		}
		if !p.prefix.Contains(addr) || addr == p.prefix.Addr() {
			t.Errorf("%s: got address %v, want one in %v except the first", key, addr, p.prefix)
		}
		seen[addr] = key
	}
	return assigned
}

func TestAddressesAreTheSameInEveryRun(t *testing.T) {
	first := assign(t, newPool(t, "127.64.0.0/10"), automatic(0, 1000))
	if second := assign(t, newPool(t, "127.64.0.0/10"), automatic(0, 1000)); !maps.Equal(first, second) {
		t.Error("the second run assigned other addresses")
	}
}

func TestRemainingKeysKeepTheirAddresses(t *testing.T) {
	p := newPool(t, "127.64.0.0/24")
	all := assign(t, p, automatic(0, 254)) // a full prefix: many keys collide
	half := assign(t, p, automatic(127, 254))
	for key, addr := range half {
		if all[key] != addr {
			t.Errorf("%s: got address %v, want %v as before", key, addr, all[key])
		}
	}
	assign(t, p, automatic(127, 300))
	if got, problems := p.Assign(automatic(0, 255)); len(got) != 254 || len(problems) != 1 {
		t.Errorf("got %d addresses and %d problems for 255 keys, want 254 and 1", len(got), len(problems))
	}
}

func TestUnusedAddressIsReservedDuringGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, "127.64.0.0/24")
		before := assign(t, p, automatic(0, 100))
		for i := range 5 {
			<-time.After(reuseGrace / 10)
			for key, addr := range assign(t, p, automatic(100+20*i, 120+20*i)) {
				for oldKey, oldAddr := range before {
					if addr == oldAddr {
						t.Errorf("%s got the address of %s, %v", key, oldKey, addr)
					}
				}
			}
		}
		<-time.After(reuseGrace)
		assign(t, p, nil)
		if len(p.byKey) == 200 {
			t.Error("no address was freed")
		}
		<-time.After(reuseGrace)
		assign(t, p, nil)
		if len(p.byKey) != 0 || len(p.unusedSince) != 0 {
			t.Errorf("got %d addresses and %d unused keys, want none", len(p.byKey), len(p.unusedSince))
		}
	})
}

func TestReservedAddresses(t *testing.T) {
	const key = "ns/svc-0//ctx"
	p := newPool(t, "127.64.0.0/24")
	p.ranges = append(p.ranges, netip.MustParsePrefix("127.1.27.0/24"))
	derived := assign(t, p, automatic(0, 1))[key]
	keys := map[string]netip.Addr{key: {}, "inside": derived, "outside": netip.MustParseAddr("127.1.27.1")}
	got, problems := p.Assign(keys)
	if len(problems) > 0 {
		t.Fatalf("got problems %v, want none", problems)
	}
	if got["inside"] != keys["inside"] || got["outside"] != keys["outside"] || got[key] == derived || !p.prefix.Contains(got[key]) {
		t.Errorf("got %v, want the reserved addresses, and another one in %v for %s", got, p.prefix, key)
	}
	if got := assign(t, p, automatic(0, 1)); !p.prefix.Contains(got[key]) {
		t.Errorf("got %v, want an address in %v", got, p.prefix)
	}
	keys["beyond"] = netip.MustParseAddr("127.1.28.1")
	want := "--cidr 127.64.0.0/24,127.1.28.0/24"
	if got, problems := p.Assign(keys); len(got) != 3 || !strings.Contains(fmt.Sprint(problems), want) {
		t.Errorf("one address outside all ranges: got %v and problems %v, want 3 addresses and %q", got, problems, want)
	}
	delete(keys, "beyond")
	keys[key] = derived
	want = "already reserved for"
	if got, problems := p.Assign(keys); len(got) != 2 || len(problems) != 1 || !strings.Contains(fmt.Sprint(problems), want) {
		t.Errorf("one address reserved twice: got %v and problems %v, want 2 addresses and %q", got, problems, want)
	}
}

// An address that doesn't follow from its key alone is the same in the next run,
// even if other keys are gone.
func TestDisplacedAddressesAreTheSameInTheNextRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "addresses.json")
	run := func(owner string, keys map[string]netip.Addr) map[string]netip.Addr {
		t.Helper()
		p, err := NewPool([]netip.Prefix{netip.MustParsePrefix("127.64.0.0/24")}, owner, OpenStore(path, func(err error) { t.Error(err) }))
		if err != nil {
			t.Fatal(err)
		}
		return assign(t, p, keys)
	}
	all := run("me", automatic(0, 200))
	var running sync.WaitGroup
	for i := range 8 { // other users' runs, concurrently
		running.Go(func() { run(fmt.Sprint("other", i), automatic(0, 200)) })
	}
	running.Wait()
	again := run("me", automatic(100, 200))
	for key, addr := range again {
		if all[key] != addr {
			t.Errorf("%s: got address %v, want %v as before", key, addr, all[key])
		}
	}
	if other := run("other1", automatic(100, 200)); maps.Equal(other, again) {
		t.Error("two users got the same addresses")
	}
}

func TestDamagedStoreIsReportedAndReplaced(t *testing.T) {
	for _, text := range []string{`{"me/ns/svc-1`, "null", "[]", `{"me/ns/svc-1//ctx": {"address": 1}}`} {
		t.Run(text, func(t *testing.T) { testDamaged(t, text) })
	}
}

func testDamaged(t *testing.T, text string) {
	path := filepath.Join(t.TempDir(), "addresses.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var reported []error
	open := func() *Pool {
		store := OpenStore(path, func(err error) { reported = append(reported, err) })
		p, err := NewPool([]netip.Prefix{netip.MustParsePrefix("127.64.0.0/24")}, "me", store)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	before := assign(t, open(), automatic(0, 200))
	if len(reported) != 1 || !strings.Contains(reported[0].Error(), path) {
		t.Errorf("got reports %v, want one that names %s", reported, path)
	}
	after := assign(t, open(), automatic(0, 200))
	if !maps.Equal(before, after) {
		t.Error("the next run assigned other addresses than those saved")
	}
	if len(reported) != 1 {
		t.Errorf("got reports %v, want none after the first", reported)
	}

	path = filepath.Join(path, "not a directory")
	if assign(t, open(), automatic(0, 200)); len(reported) == 1 || len(reported) > 3 {
		t.Errorf("got reports %v for a file that can't be written, want one or two more", reported)
	}
}

func TestNewPoolRejectsUnusablePrefixes(t *testing.T) {
	for _, prefix := range []string{"10.0.0.0/8", "127.0.0.0/7", "127.1.1.0/25", "127.0.0.0/8", "127.0.0.0/24", "::1/128", "0.0.0.0/0"} {
		if _, err := NewPool([]netip.Prefix{netip.MustParsePrefix(prefix)}, "me", nil); err == nil {
			t.Errorf("%s: got no error", prefix)
		}
	}
}

// The usable ranges are the loopback range without the system's part.
func TestUsableRanges(t *testing.T) {
	usable := func(text string) bool {
		addr := netip.MustParseAddr(text)
		return slices.ContainsFunc(UsableRanges(), func(r netip.Prefix) bool { return r.Contains(addr) })
	}
	for _, addr := range []string{"127.1.0.0", "127.1.27.1", "127.3.3.1", "127.64.0.1", "127.128.0.1", "127.255.255.255"} {
		if !usable(addr) {
			t.Errorf("%s is in none of the ranges", addr)
		}
	}
	for _, addr := range []string{"127.0.0.1", "127.0.255.255", "126.255.255.255", "128.0.0.1"} {
		if usable(addr) {
			t.Errorf("%s is in one of the ranges", addr)
		}
	}
	for _, r := range UsableRanges() {
		if err := CheckPrefix(r); err != nil {
			t.Error(err)
		}
	}
}

func TestReservationsElsewhereLeaveTheFirstRangeFree(t *testing.T) {
	p, err := NewPool([]netip.Prefix{netip.MustParsePrefix("127.100.0.0/24"), netip.MustParsePrefix("127.101.0.0/16")}, "o", nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]netip.Addr{"web": {}}
	for i := range 254 {
		keys[fmt.Sprint("a", i)] = netip.AddrFrom4([4]byte{127, 101, 0, byte(i)})
	}
	if got, problems := p.Assign(keys); len(problems) > 0 || !got["web"].IsValid() {
		t.Errorf("got address %v for web and problems %v, want a valid address and none", got["web"], problems)
	}
}
