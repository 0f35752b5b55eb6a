//go:build linux || darwin

package keeper

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/kubeshore/kubeshore/pkg/loopback"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// The keeper accepts what the largest plan needs, and its responses fit in a
// message even if it refuses all of it.
func TestLargestPlanIsAccepted(t *testing.T) {
	k := &Keeper{Allowed: []netip.Prefix{loopback.DefaultPrefix}}
	ports := make([]netip.AddrPort, 0, 2*plan.MaxPorts) // those of the plans before and after a change
	addrs := make([]netip.Addr, 0, cap(ports))
	for addr := netip.MustParseAddr("127.100.100.100"); len(ports) < cap(ports); addr = addr.Next() {
		ports, addrs = append(ports, netip.AddrPortFrom(addr, 65535)), append(addrs, addr)
	}
	for _, size := range []int{plan.MaxNamesSize/plan.MaxNames - 6, 253} { // as many names as possible, and as long ones as possible
		names := make(map[netip.Addr][]string)
		refused := make(map[string]error)
		for i := range min(plan.MaxNames, plan.MaxNamesSize/(size+6)) {
			name := fmt.Sprintf("%0*d", size, i)
			names[addrs[i%plan.MaxPorts]] = append(names[addrs[i%plan.MaxPorts]], name)
			refused[name] = errors.New("name " + name + " is refused: " + strings.Repeat("x", 300))
		}
		portErrors := make(map[netip.AddrPort]error)
		for _, at := range ports {
			portErrors[at] = errors.New("port: address already in use by some other program")
		}
		for what, message := range map[string]any{
			"ports":     request{Sequence: 1, Ports: &ports, Existing: ports},
			"addresses": request{Sequence: 1, Addrs: &addrs},
			"names":     request{Sequence: 1, Names: &names},
			"refused":   response{Sequence: 1, Refused: errorTexts(refused, strings.Compare)},
			"unbound":   response{Sequence: 1, PortErrors: errorTexts(portErrors, netip.AddrPort.Compare)},
		} {
			encoded, err := encode(message)
			if err != nil {
				t.Errorf("%s, names of %d bytes: %v", what, size, err)
			}
			if r, ok := message.(request); ok {
				if _, err := decode(encoded[4:]); err != nil {
					t.Errorf("%s, names of %d bytes: %v", what, size, err)
				}
				if err := k.check(r); err != nil {
					t.Errorf("%s, names of %d bytes: %v", what, size, err)
				}
			}
		}
		errs := textErrors(errorTexts(refused, strings.Compare))
		if len(errs) != len(refused) {
			t.Errorf("got %d errors, want one for each of %d names", len(errs), len(refused))
		}
		for name, err := range errs {
			if err.Error() == "" {
				t.Fatalf("name %s: got an error without a text", name)
			}
		}
	}
}

// A response that would be longer than a message ends neither keeper nor daemon.
func TestTooLongResponseIsReplaced(t *testing.T) {
	s := startKeeper(t.Context(), t)
	c, stop := s.client(t)
	name := strings.Repeat("<", 3<<20) // six times as long in the response's JSON
	if err := send(s.peer, `{"sequence":9,"names":{"127.64.0.1":["`+name+`"]}}`); err != nil {
		t.Fatal(err)
	}
	if refused, err := c.Names().Set(t.Context(), map[netip.Addr][]string{web: {"web.shop"}}); err != nil || len(refused) > 0 {
		t.Errorf("after the response: got %v, error %v, want neither", refused, err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
}

// A message of the largest size costs no more memory than it has itself, however many
// elements it has.
func TestTooManyElementsAreNotParsed(t *testing.T) {
	elements := strings.Repeat(`"",`, maxMessage/3-100)
	for _, field := range []string{"ports", "addrs"} {
		message := []byte(`{"sequence":1,"` + field + `":[` + elements + `""]}`)
		var err error
		allocated := testing.AllocsPerRun(1, func() { _, err = decode(message) })
		if err == nil || !strings.Contains(err.Error(), "elements, and the limit is") || allocated > 100 {
			t.Errorf("%s: got %v after %.0f allocations, want an error before it is parsed", field, err, allocated)
		}
	}
}
