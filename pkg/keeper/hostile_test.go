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

// hostile maps requests that a keeper refuses to the beginning of its error.
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
	`{"sequence":1,"ports":["127.64.0.1:80"` + strings.Repeat(`,"127.64.0.1:80"`, maxPorts) + `]}`: "refused: 131073 ports",
	`{"sequence":1,"addrs":["127.64.0.1"` + strings.Repeat(`,"127.64.0.1"`, maxAddrs) + `]}`:       "refused: 131073 addresses",
	`{"sequence":1,"names":{"127.64.0.1":["a"` + strings.Repeat(`,"a"`, maxNames) + `]}}`:          "refused: 262145 names",
	`{"sequence":1,"ports":[],"existing":[""` + strings.Repeat(`,""`, maxPorts) + `]}`:             "refused: 131073 ports",
}

// A keeper refuses hostile requests, reports them, and keeps running.
func TestKeeperRefusesHostileRequests(t *testing.T) {
	s := startKeeper(t.Context(), t)
	if _, err := readResponse(s.peer); err != nil { // the hello
		t.Fatal(err)
	}
	for text, want := range hostile {
		if err := send(s.peer, text); err != nil {
			t.Fatal(err)
		}
		if got := nextResponse(t, s.peer); !strings.HasPrefix(got.Error, want) || len(got.Sockets) > 0 {
			t.Errorf("%.60s: got %+v, want an error with the prefix %q, and no sockets", text, got, want)
		}
	}
	bad := []string{"localhost", "a b", "a\nb", "a#b", "a\x00b", "8.8.8.8\tbank", strings.Repeat("a.", 10_000), strings.Repeat("a", 64), "", "mine"}
	if err := writeMessage(s.peer, request{Sequence: 9, Names: &map[netip.Addr][]string{web: bad}}); err != nil {
		t.Fatal(err)
	}
	if got := nextResponse(t, s.peer); len(got.Refused) != len(bad) {
		t.Errorf("got refused names %v, want all of %q", got.Refused, bad)
	}
	if got := s.hosts(t); got != original {
		t.Errorf("got hosts file %q, want %q", got, original)
	}
	if err := writeMessage(s.peer, request{Sequence: 10, Names: &map[netip.Addr][]string{web: bad}}); err != nil { // not reported again
		t.Fatal(err)
	}
	nextResponse(t, s.peer)
	if got, want := len(s.refused), len(hostile)+1; got != want {
		t.Errorf("got %d reports, want %d", got, want)
	}
	// One of the bad names is valid: another line maps it.
	if last := s.refused[len(s.refused)-1]; !strings.HasPrefix(last, "refused: 9 names, e.g. ") ||
		strings.ContainsAny(last, "\n\x00\t") || len(last) > 2*maxReportedName {
		t.Errorf("got last report %q, want 9 names in a short, printable line", last)
	}
	if err := s.peer.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
}

func TestKeeperRestoresAfterMalformedRequest(t *testing.T) {
	huge := binary.BigEndian.AppendUint32(nil, 1<<31)
	for name, bytes := range map[string][]byte{
		"huge length":    huge,
		"empty":          message(""),
		"not JSON":       message("nonsense"),
		"two values":     message(`{"sequence":1,"addrs":[]} {}`),
		"unknown field":  message(`{"sequence":1,"addrs":[],"path":"/etc/passwd"}`),
		"two requests":   message(`{"sequence":1,"addrs":[],"ports":[]}`),
		"nothing to set": message(`{"sequence":1}`),
		"no sequence":    message(`{"addrs":[]}`),
		"not an address": message(`{"sequence":1,"ports":["web:80"]}`),
		"truncated":      message(`{"sequence":1,"addrs":[]}`)[:9],
	} {
		t.Run(name, func(t *testing.T) {
			s := startKeeper(t.Context(), t)
			if _, err := readResponse(s.peer); err != nil { // the hello
				t.Fatal(err)
			}
			if err := writeMessage(s.peer, request{Sequence: 1, Names: &map[netip.Addr][]string{web: {"web.shop"}}}); err != nil {
				t.Fatal(err)
			}
			if got := nextResponse(t, s.peer); got.Error != "" || !strings.Contains(s.hosts(t), "web.shop") {
				t.Fatalf("got response %+v and hosts file %q, want no error and web.shop", got, s.hosts(t))
			}
			if _, err := s.peer.Write(bytes); err != nil {
				t.Fatal(err)
			}
			if name == "truncated" {
				_ = s.peer.CloseWrite()
			}
			if err := <-s.ended; err == nil || !strings.Contains(err.Error(), "malformed") {
				t.Errorf("got error %v, want one that contains %q", err, "malformed")
			}
			if got := s.hosts(t); got != original {
				t.Errorf("got hosts file %q, want %q", got, original)
			}
			if len(s.refused) != 1 {
				t.Errorf("got reports %q, want one", s.refused)
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

// nextResponse returns the next response to a request, and skips notifications.
func nextResponse(t *testing.T, conn *net.UnixConn) response {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for {
		resp, err := readResponse(conn)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Sequence > 0 {
			return resp
		}
	}
}

// No request that decode and check accept has an address outside the allowed ranges.
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
				t.Errorf("port %v was accepted", at)
			}
		}
		for _, addr := range deref(r.Addrs) {
			if !loopback.DefaultPrefix.Contains(addr) {
				t.Errorf("address %v was accepted", addr)
			}
		}
		if r.Names != nil {
			for addr := range *r.Names {
				if !loopback.DefaultPrefix.Contains(addr) && fmt.Sprint(addr) != "127.0.0.1" {
					t.Errorf("names for address %v were accepted", addr)
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
