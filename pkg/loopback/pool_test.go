package loopback

import (
	"fmt"
	"maps"
	"net/netip"
	"testing"
)

func keys(n int) []string {
	result := make([]string, n)
	for i := range result {
		result[i] = fmt.Sprintf("ns/svc-%d//ctx", i)
	}
	return result
}

func pool(t *testing.T, prefix string) *Pool {
	t.Helper()
	p, err := NewPool(netip.MustParsePrefix(prefix))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func assign(t *testing.T, p *Pool, keys []string) map[string]netip.Addr {
	t.Helper()
	assigned, err := p.Assign(keys)
	if err != nil {
		t.Fatal(err)
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
	first := assign(t, pool(t, "127.64.0.0/10"), keys(1000))
	if second := assign(t, pool(t, "127.64.0.0/10"), keys(1000)); !maps.Equal(first, second) {
		t.Error("a second run gives other addresses")
	}
}

func TestAssignKeepsAndFrees(t *testing.T) {
	p := pool(t, "127.64.0.0/24")
	all := assign(t, p, keys(254)) // full: many keys meet
	half := assign(t, p, keys(254)[127:])
	for key, addr := range half {
		if all[key] != addr {
			t.Errorf("%s moved from %v to %v", key, all[key], addr)
		}
	}
	assign(t, p, append(keys(254)[127:], "a new one"))
	if _, err := p.Assign(keys(255)); err == nil {
		t.Error("255 keys fit into 254 addresses")
	}
}

func TestNewPoolRefuses(t *testing.T) {
	for _, prefix := range []string{"10.0.0.0/8", "127.0.0.0/7", "127.1.1.0/25", "::1/128", "0.0.0.0/0"} {
		if _, err := NewPool(netip.MustParsePrefix(prefix)); err == nil {
			t.Errorf("%s is taken", prefix)
		}
	}
}
