package listen

import (
	"net/netip"
	"testing"
)

// Sockets for ports leave descriptors for connections and the hosts file. Ports of
// addresses with few of them come first.
func TestSocketsLeaveDescriptors(t *testing.T) {
	for limit, want := range map[int]int{0: 0, 100: 0, 256: 0, 1024: 768, 4096: 3072, 1 << 20: 3 << 18} {
		if got := maxSockets(limit); got != want {
			t.Errorf("limit %d: got %d sockets, want %d", limit, got, want)
		}
	}
	large, small := netip.MustParseAddr("127.70.3.1"), netip.MustParseAddr("127.70.3.2")
	ports := make([]netip.AddrPort, 0, 101)
	for port := range uint16(100) {
		ports = append(ports, netip.AddrPortFrom(large, 20000+port))
	}
	ports = append(ports, netip.AddrPortFrom(small, 20000))
	existing := make([]netip.AddrPort, maxSockets(fileLimit())-10) // there is room for ten more
	sockets, portErrors, err := NewEach("test").Take(t.Context(), ports, existing)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sockets {
		_ = s.Close()
	}
	if len(sockets) != 10 || len(portErrors) != 91 || portErrors[ports[100]] != nil {
		t.Errorf("got %d sockets and %d errors, of the small host: %v; want 10, 91, and none", len(sockets), len(portErrors), portErrors[ports[100]])
	}
}
