package netaddr

import (
	"net"
	"net/netip"
	"testing"
)

func TestAddrPort(t *testing.T) {
	want := netip.MustParseAddrPort("127.1.2.3:80")
	for _, a := range []net.Addr{
		&net.TCPAddr{IP: net.IPv4(127, 1, 2, 3), Port: 80},
		&net.TCPAddr{IP: net.IPv4(127, 1, 2, 3).To4(), Port: 80},
	} {
		if got := AddrPort(a); got != want {
			t.Errorf("AddrPort(%v): got %v, want %v", a, got, want)
		}
	}
	if got := AddrPort(&net.UnixAddr{Name: "x"}); got.IsValid() {
		t.Errorf("AddrPort of a unix address: got %v, want the zero value", got)
	}
}
