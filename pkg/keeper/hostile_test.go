//go:build linux || darwin

package keeper

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/pkg/loopback"
)

// hostile are requests that a keeper refuses, with what it says.
var hostile = map[string]string{
	`{"sequence":1,"ports":["8.8.8.8:80"]}`:                                                        "refused: address 8.8.8.8",
	`{"sequence":1,"ports":["0.0.0.0:80"]}`:                                                        "refused: address 0.0.0.0",
	`{"sequence":1,"ports":["[::1]:80"]}`:                                                          "refused: address ::1",
	`{"sequence":1,"ports":["[::ffff:127.64.0.1]:80"]}`:                                            "refused: address ::ffff:127.64.0.1",
	`{"sequence":1,"ports":["127.0.0.1:80"]}`:                                                      "refused: address 127.0.0.1",
	`{"sequence":1,"ports":["127.128.0.1:80"]}`:                                                    "refused: address 127.128.0.1",
	`{"sequence":1,"ports":["127.64.0.1:0"]}`:                                                      "refused: port 0",
	`{"sequence":1,"names":{"8.8.8.8":["a"]}}`:                                                     "refused: address 8.8.8.8",
	`{"sequence":1,"names":{"::1":["a"]}}`:                                                         "refused: address ::1",
	`{"sequence":1,"addrs":["10.0.0.1"]}`:                                                          "refused: address 10.0.0.1",
	`{"sequence":1,"ports":["127.64.0.1:80"` + strings.Repeat(`,"127.64.0.1:80"`, maxPorts) + `]}`: "refused: 65537 ports",
	`{"sequence":1,"addrs":["127.64.0.1"` + strings.Repeat(`,"127.64.0.1"`, maxAddrs) + `]}`:       "refused: 65537 addresses",
	`{"sequence":1,"names":{"127.64.0.1":["a"` + strings.Repeat(`,"a"`, maxNames) + `]}}`:          "refused: 262145 names",
	`{"sequence":1,"ports":[],"have":[""` + strings.Repeat(`,""`, maxPorts) + `]}`:                 "refused: 65537 ports",
}

// A keeper refuses what it may not do, says so, and goes on.
func TestKeeperRefuses(t *testing.T) {
	s := serve(t.Context(), t)
	if _, err := readAnswer(s.peer); err != nil { // the hello
		t.Fatal(err)
	}
	for text, want := range hostile {
		if err := send(s.peer, text); err != nil {
			t.Fatal(err)
		}
		if a := reply(t, s.peer); !strings.HasPrefix(a.Error, want) || len(a.Sockets) > 0 {
			t.Errorf("%.60s: %+v", text, a)
		}
	}
	bad := []string{"localhost", "a b", "a\nb", "a#b", "a\x00b", "8.8.8.8\tbank", strings.Repeat("a.", 10_000), strings.Repeat("a", 64), "", "mine"}
	if err := writeMessage(s.peer, request{Sequence: 9, Names: &map[netip.Addr][]string{web: bad}}); err != nil {
		t.Fatal(err)
	}
	if a := reply(t, s.peer); len(a.Refused) != len(bad) {
		t.Errorf("refused %v", a.Refused)
	}
	if text := s.hosts(t); text != original {
		t.Errorf("the hosts file has %q", text)
	}
	if err := writeMessage(s.peer, request{Sequence: 10, Names: &map[netip.Addr][]string{web: bad}}); err != nil { // it is told once
		t.Fatal(err)
	}
	reply(t, s.peer)
	// One of the bad names is only taken.
	if last := s.refused[len(s.refused)-1]; len(s.refused) != len(hostile)+1 || !strings.HasPrefix(last, "refused: 9 names, of them ") ||
		strings.ContainsAny(last, "\n\x00\t") || len(last) > 2*maxNoted {
		t.Errorf("it logged %d of %d, the last %q", len(s.refused), len(hostile)+1, last)
	}
	if err := s.peer.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
}

// A keeper that doesn't understand its peer ends, with everything put back.
func TestKeeperMalformed(t *testing.T) {
	huge := binary.BigEndian.AppendUint32(nil, 1<<31)
	for name, bytes := range map[string][]byte{
		"a huge length":  huge,
		"nothing":        message(""),
		"not JSON":       message("nonsense"),
		"two values":     message(`{"sequence":1,"addrs":[]} {}`),
		"unknown field":  message(`{"sequence":1,"addrs":[],"path":"/etc/passwd"}`),
		"two requests":   message(`{"sequence":1,"addrs":[],"ports":[]}`),
		"no request":     message(`{"sequence":1}`),
		"no sequence":    message(`{"addrs":[]}`),
		"not an address": message(`{"sequence":1,"ports":["web:80"]}`),
		"an early end":   message(`{"sequence":1,"addrs":[]}`)[:9],
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t.Context(), t)
			if _, err := readAnswer(s.peer); err != nil { // the hello
				t.Fatal(err)
			}
			if err := writeMessage(s.peer, request{Sequence: 1, Names: &map[netip.Addr][]string{web: {"web.shop"}}}); err != nil {
				t.Fatal(err)
			}
			if a := reply(t, s.peer); a.Error != "" || !strings.Contains(s.hosts(t), "web.shop") {
				t.Fatal(a)
			}
			if _, err := s.peer.Write(bytes); err != nil {
				t.Fatal(err)
			}
			if name == "an early end" {
				_ = s.peer.CloseWrite()
			}
			if err := <-s.ended; err == nil || !strings.Contains(err.Error(), "malformed") {
				t.Errorf("it ends with %v", err)
			}
			if text := s.hosts(t); text != original || len(s.refused) != 1 {
				t.Errorf("the hosts file has %q, and it logged %v", text, s.refused)
			}
		})
	}
}

func message(text string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
}

func send(conn io.Writer, text string) error {
	_, err := conn.Write(message(text))
	return err
}

// reply reads the next reply: the keeper may tell of changes before it.
func reply(t *testing.T, conn *net.UnixConn) answer {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for {
		a, err := readAnswer(conn)
		if err != nil {
			t.Fatal(err)
		}
		if a.Sequence > 0 {
			return a
		}
	}
}

// Whatever a peer writes, a keeper understands a request that it can write itself, or
// none.
func FuzzDecode(f *testing.F) {
	for text := range hostile {
		if len(text) < 200 {
			f.Add([]byte(text))
		}
	}
	f.Add([]byte(`{"sequence":1,"names":{"127.64.0.1":["a","b"]}}`))
	k := &Keeper{Allowed: []netip.Prefix{loopback.DefaultPrefix}}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := decode(text)
		if err != nil || k.check(r) != nil {
			return
		}
		for _, at := range deref(r.Ports) {
			if !loopback.DefaultPrefix.Contains(at.Addr()) || at.Port() == 0 {
				t.Errorf("it takes %v", at)
			}
		}
		for _, addr := range deref(r.Addrs) {
			if !loopback.DefaultPrefix.Contains(addr) {
				t.Errorf("it takes %v", addr)
			}
		}
		if r.Names != nil {
			for addr := range *r.Names {
				if !loopback.DefaultPrefix.Contains(addr) && fmt.Sprint(addr) != "127.0.0.1" {
					t.Errorf("it names %v", addr)
				}
			}
		}
	})
}

func deref[T any](p *[]T) []T {
	if p == nil {
		return nil
	}
	return *p
}
