package listen_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"

	"github.com/kubeshore/kubeshore/internal/netaddr"
	"github.com/kubeshore/kubeshore/pkg/listen"
)

func newClients(t *testing.T, a listen.Audience) *listen.Clients {
	t.Helper()
	clients, err := listen.NewClients(a)
	if errors.Is(err, listen.ErrUnidentified) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(clients.Close)
	return clients
}

// pair returns both ends of a connection over a loopback address.
func pair(t *testing.T, address string) (client, accepted *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = conn.Close(), other.Close() })
	return conn.(*net.TCPConn), other.(*net.TCPConn)
}

// fakeConn is a connection of which only the addresses matter.
type fakeConn struct {
	net.Conn
	local, remote string
}

func (c fakeConn) LocalAddr() net.Addr  { return tcpAddr(c.local) }
func (c fakeConn) RemoteAddr() net.Addr { return tcpAddr(c.remote) }

func tcpAddr(text string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(text)) }

// With route_localnet, a neighbor on the network can reach 127.0.0.0/8.
func TestAddressesOfOtherMachinesAreRefused(t *testing.T) {
	clients := newClients(t, listen.ForEveryone)
	for remote, want := range map[string]bool{
		"127.0.0.1:1024": true, "127.70.0.9:1024": true, "[::ffff:127.0.0.1]:1024": true,
		"192.168.1.7:1024": false, "10.0.0.1:1024": false, "0.0.0.0:1024": false, "128.0.0.1:1024": false, "[fe80::1]:1024": false,
	} {
		if got := clients.Admits(fakeConn{local: "127.70.0.1:80", remote: remote}); got != want {
			t.Errorf("Admits with remote address %s: got %v, want %v", remote, got, want)
		}
	}
	if got, want := clients.Refused(), uint64(5); got != want {
		t.Errorf("got %d refused connections, want %d", got, want)
	}
}

func TestOwnConnectionsAreAdmitted(t *testing.T) {
	for _, audience := range []listen.Audience{"", listen.ForMe, listen.ForEveryone} {
		t.Run(string(audience), func(t *testing.T) {
			clients := newClients(t, audience)
			client, accepted := pair(t, "127.0.0.1:0")
			for _, state := range []string{"open", "half-closed"} {
				if !clients.Admits(accepted) {
					t.Errorf("a connection that is %s isn't admitted", state)
				}
				if err := client.CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			if got := clients.Refused(); got != 0 {
				t.Errorf("got %d refused connections, want 0", got)
			}
		})
	}
}

// A socket that doesn't exist proves nothing about its user: a request may have
// been sent through it.
func TestUnknownUsersAreRefusedAndReportedOnce(t *testing.T) {
	clients := newClients(t, listen.ForMe)
	for range 3 {
		if clients.Admits(fakeConn{local: "127.70.0.1:1", remote: "127.70.0.1:2"}) {
			t.Error("a connection without a client's socket is admitted")
		}
	}
	if got := clients.Refused(); got != 3 {
		t.Errorf("got %d refused connections, want 3", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var reported []listen.User
	clients.Report(ctx, func(u listen.User) {
		reported = append(reported, u)
		cancel()
	})
	if len(reported) != 1 || reported[0].Known {
		t.Errorf("got reports %v, want one of an unknown user", reported)
	}
}

func TestRefusedConnectionsAreReset(t *testing.T) {
	withEachTaker(t, func(t *testing.T, taker listen.Taker) {
		p, at := listen.New(taker), freePorts(t, 2)
		t.Cleanup(func() { _ = p.Close() })
		p.Admits = func(conn net.Conn) bool { return netaddr.AddrPort(conn.LocalAddr()) != at[0] }
		mustSet(t, p, at...)
		refused, err := net.Dial("tcp", at[0].String())
		if err == nil { // else the reset came first
			defer refused.Close()
			_, err = refused.Read(make([]byte, 1))
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a refused connection: got error %v, want %v", err, syscall.ECONNRESET)
		}
		checkAccepts(t, p, at[1])
	})
}

func TestAudienceNames(t *testing.T) {
	var a listen.Audience
	for _, name := range []string{"me", "everyone"} {
		if err := a.Set(name); err != nil || a.String() != name {
			t.Errorf("Set(%q): got %q, error %v", name, a.String(), err)
		}
	}
	for _, name := range []string{"", "root", "Me"} {
		if err := a.Set(name); err == nil {
			t.Errorf("Set(%q): got no error", name)
		}
	}
}

// BenchmarkAdmits measures the question for the user alone, and with a netlink
// socket for each question.
func BenchmarkAdmits(b *testing.B) {
	for _, reopen := range []bool{false, true} {
		b.Run(fmt.Sprintf("reopen=%v", reopen), func(b *testing.B) {
			clients, err := listen.NewClients(listen.ForMe)
			if err != nil {
				b.Fatal(err)
			}
			defer clients.Close()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			client, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer client.Close()
			accepted, err := l.Accept()
			if err != nil {
				b.Fatal(err)
			}
			defer accepted.Close()
			for b.Loop() {
				if !clients.Admits(accepted) {
					b.Fatal("not admitted")
				}
				if reopen {
					clients.Close()
				}
			}
		})
	}
}

// BenchmarkAccept measures connections with and without the check.
func BenchmarkAccept(b *testing.B) {
	for _, audience := range []listen.Audience{listen.ForEveryone, listen.ForMe} {
		b.Run(string(audience), func(b *testing.B) {
			clients, err := listen.NewClients(audience)
			if err != nil {
				b.Fatal(err)
			}
			defer clients.Close()
			p := listen.New(listen.NewEach("benchmark"))
			p.Admits = clients.Admits
			at := netip.MustParseAddrPort("127.70.0.1:21847")
			if portErrors := p.Set(b.Context(), []netip.AddrPort{at}); len(portErrors) > 0 {
				b.Fatal(portErrors)
			}
			var accepting sync.WaitGroup
			accepting.Go(func() {
				for {
					conn, err := p.Accept()
					if err != nil {
						return
					}
					_, _ = conn.Write([]byte("x"))
					_ = conn.Close()
				}
			})
			for b.Loop() {
				conn, err := net.Dial("tcp", at.String())
				if err != nil {
					b.Fatal(err)
				}
				if _, err := conn.Read(make([]byte, 1)); err != nil {
					b.Fatal(err)
				}
				_ = conn.(*net.TCPConn).SetLinger(0)
				_ = conn.Close()
			}
			_ = p.Close()
			accepting.Wait()
		})
	}
}
