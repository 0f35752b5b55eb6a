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

// keys returns keys that any address will do for.
func keys(from, to int) map[string]netip.Addr {
	result := make(map[string]netip.Addr, to-from)
	for i := from; i < to; i++ {
		result[fmt.Sprintf("ns/svc-%d//ctx", i)] = netip.Addr{}
	}
	return result
}

func pool(t *testing.T, prefix string) *Pool {
	t.Helper()
	p, err := NewPool([]netip.Prefix{netip.MustParsePrefix(prefix)}, "me", nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func assign(t *testing.T, p *Pool, keys map[string]netip.Addr) map[string]netip.Addr {
	t.Helper()
	assigned, faults := p.Assign(keys)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if len(assigned) != len(keys) {
		t.Fatalf("%d addresses for %d keys", len(assigned), len(keys))
	}
	seen := make(map[netip.Addr]string)
	for key, addr := range assigned {
		if other, ok := seen[addr]; ok {
			t.Errorf("%s and %s both have %v", key, other, addr)
		}
		if !p.prefix.Contains(addr) || addr == p.prefix.Addr() {
			t.Errorf("%s has %v, outside of %v or its first", key, addr, p.prefix)
		}
		seen[addr] = key
	}
	return assigned
}

func TestAssignIsTheSameOnEveryRun(t *testing.T) {
	first := assign(t, pool(t, "127.64.0.0/10"), keys(0, 1000))
	if second := assign(t, pool(t, "127.64.0.0/10"), keys(0, 1000)); !maps.Equal(first, second) {
		t.Error("a second run gives other addresses")
	}
}

func TestAssignKeepsAndFrees(t *testing.T) {
	p := pool(t, "127.64.0.0/24")
	all := assign(t, p, keys(0, 254)) // full: many keys meet
	half := assign(t, p, keys(127, 254))
	for key, addr := range half {
		if all[key] != addr {
			t.Errorf("%s moved from %v to %v", key, all[key], addr)
		}
	}
	assign(t, p, keys(127, 300))
	if got, faults := p.Assign(keys(0, 255)); len(got) != 254 || len(faults) != 1 {
		t.Errorf("of 255 keys %d have one of 254 addresses, and %d have none", len(got), len(faults))
	}
}

// The address of a key that is gone is no other's for a while: somebody may
// still know it.
func TestAssignKeepsAddressesAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool(t, "127.64.0.0/24")
		before := assign(t, p, keys(0, 100))
		for i := range 5 {
			<-time.After(quarantine / 10)
			for key, addr := range assign(t, p, keys(100+20*i, 120+20*i)) {
				for old, had := range before {
					if had == addr {
						t.Errorf("%s has the address that %s had", key, old)
					}
				}
			}
		}
		<-time.After(quarantine)
		assign(t, p, nil)
		if len(p.byKey) == 200 {
			t.Error("nothing is free again")
		}
		<-time.After(quarantine)
		assign(t, p, nil)
		if len(p.byKey) != 0 || len(p.gone) != 0 {
			t.Errorf("it still knows %d", len(p.byKey))
		}
	})
}

func TestAssignReserved(t *testing.T) {
	p := pool(t, "127.64.0.0/24")
	p.ranges = append(p.ranges, netip.MustParsePrefix("127.1.27.0/24"))
	derived := assign(t, p, keys(0, 1))["ns/svc-0//ctx"]
	want := map[string]netip.Addr{"ns/svc-0//ctx": {}, "inside": derived, "outside": netip.MustParseAddr("127.1.27.1")}
	got, faults := p.Assign(want)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if got["inside"] != want["inside"] || got["outside"] != want["outside"] || got["ns/svc-0//ctx"] == derived || !p.prefix.Contains(got["ns/svc-0//ctx"]) {
		t.Errorf("got %v", got)
	}
	if got := assign(t, p, keys(0, 1)); !p.prefix.Contains(got["ns/svc-0//ctx"]) {
		t.Errorf("got %v", got)
	}
	want["beyond"] = netip.MustParseAddr("127.1.28.1")
	if got, faults := p.Assign(want); len(got) != 3 || !strings.Contains(fmt.Sprint(faults), "--cidr 127.64.0.0/24,127.1.28.0/24") {
		t.Errorf("got %v, %v for an address that is in no range", got, faults)
	}
	delete(want, "beyond")
	want["ns/svc-0//ctx"] = derived
	if got, faults := p.Assign(want); len(got) != 2 || len(faults) != 1 || !strings.Contains(fmt.Sprint(faults), "reserved for another service too") {
		t.Errorf("got %v, %v for an address that two have", got, faults)
	}
}

// What doesn't follow from keys alone is the same on the next run all the same,
// whatever becomes of the others.
func TestAssignRemembers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "addresses.json")
	run := func(owner string, want map[string]netip.Addr) map[string]netip.Addr {
		t.Helper()
		p, err := NewPool([]netip.Prefix{netip.MustParsePrefix("127.64.0.0/24")}, owner, OpenMemory(path, func(err error) { t.Error(err) }))
		if err != nil {
			t.Fatal(err)
		}
		return assign(t, p, want)
	}
	all := run("me", keys(0, 200))
	var running sync.WaitGroup
	for i := range 8 { // another user's, at once
		running.Go(func() { run(fmt.Sprint("other", i), keys(0, 200)) })
	}
	running.Wait()
	again := run("me", keys(100, 200))
	for key, addr := range again {
		if all[key] != addr {
			t.Errorf("%s had %v and has %v", key, all[key], addr)
		}
	}
	if other := run("other1", keys(100, 200)); maps.Equal(other, again) {
		t.Error("two users have the same addresses")
	}
}

func TestMemoryIsDamaged(t *testing.T) {
	for _, text := range []string{`{"me/ns/svc-1`, "null", "[]", `{"me/ns/svc-1//ctx": {"address": 1}}`} {
		t.Run(text, func(t *testing.T) { testDamaged(t, text) })
	}
}

func testDamaged(t *testing.T, text string) {
	path := filepath.Join(t.TempDir(), "addresses.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var said []error
	open := func() *Pool {
		p, err := NewPool([]netip.Prefix{netip.MustParsePrefix("127.64.0.0/24")}, "me", OpenMemory(path, func(err error) { said = append(said, err) }))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	before := assign(t, open(), keys(0, 200))
	if len(said) != 1 || !strings.Contains(said[0].Error(), path) {
		t.Errorf("it says %v", said)
	}
	if after := assign(t, open(), keys(0, 200)); !maps.Equal(before, after) || len(said) != 1 {
		t.Errorf("it doesn't remember again: %v", said)
	}

	path = filepath.Join(path, "no folder")
	if assign(t, open(), keys(0, 200)); len(said) == 1 || len(said) > 3 {
		t.Errorf("where nothing can be written it says %v", said)
	}
}

func TestNewPoolRefuses(t *testing.T) {
	for _, prefix := range []string{"10.0.0.0/8", "127.0.0.0/7", "127.1.1.0/25", "127.0.0.0/8", "127.0.0.0/24", "::1/128", "0.0.0.0/0"} {
		if _, err := NewPool([]netip.Prefix{netip.MustParsePrefix(prefix)}, "me", nil); err == nil {
			t.Errorf("%s is taken", prefix)
		}
	}
}

// The usable ranges are all of the loopback range but for the system's part.
func TestUsable(t *testing.T) {
	in := func(text string) bool {
		addr := netip.MustParseAddr(text)
		return slices.ContainsFunc(Usable(), func(r netip.Prefix) bool { return r.Contains(addr) })
	}
	for _, addr := range []string{"127.1.0.0", "127.1.27.1", "127.3.3.1", "127.64.0.1", "127.128.0.1", "127.255.255.255"} {
		if !in(addr) {
			t.Errorf("%s is in none", addr)
		}
	}
	for _, addr := range []string{"127.0.0.1", "127.0.255.255", "126.255.255.255", "128.0.0.1"} {
		if in(addr) {
			t.Errorf("%s is in one", addr)
		}
	}
	for _, r := range Usable() {
		if err := CheckPrefix(r); err != nil {
			t.Error(err)
		}
	}
}

// Reserved addresses of another range don't use up the first one.
func TestReservedElsewhere(t *testing.T) {
	p, err := NewPool([]netip.Prefix{netip.MustParsePrefix("127.100.0.0/24"), netip.MustParsePrefix("127.101.0.0/16")}, "o", nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]netip.Addr{"web": {}}
	for i := range 254 {
		keys[fmt.Sprint("a", i)] = netip.AddrFrom4([4]byte{127, 101, 0, byte(i)})
	}
	if got, faults := p.Assign(keys); len(faults) > 0 || !got["web"].IsValid() {
		t.Errorf("%v", faults)
	}
}
