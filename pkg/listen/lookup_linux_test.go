package listen_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/pkg/listen"
)

// newLookup returns a Lookup. It needs root, as kubeshore does.
func newLookup(t testing.TB) listen.Taker {
	t.Helper()
	taker, err := listen.Open(t.Context(), listen.ModeLookup)
	if err != nil && os.Geteuid() != 0 {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := taker.Close(); err != nil {
			t.Error(err)
		}
	})
	return taker
}

// wildcard is a user's own server on all addresses, which answers "mine".
func wildcard(t *testing.T, network string, port uint16) {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), network, fmt.Sprintf(":%d", port))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("mine"))
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
}

func answers(t *testing.T, at string) string {
	t.Helper()
	conn, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	text := make([]byte, 4)
	n, _ := conn.Read(text)
	return string(text[:n])
}

// A user's server has a service's port on all addresses, from before or later, and
// neither is in the other's way: a port of a service's address that isn't the
// service's refuses, although the server is there.
func TestLookupBesideServersOnAllAddresses(t *testing.T) {
	for _, network := range []string{"tcp4", "tcp6"} { // the latter's [::] takes both families
		for _, when := range []string{"before", "after"} {
			t.Run(network+" "+when, func(t *testing.T) {
				p, at := newPorts(t, newLookup(t)), places(t, 2)
				network := network
				if network == "tcp6" {
					network = "tcp"
				}
				if when == "before" {
					wildcard(t, network, at[0].Port())
				}
				set(t, p, at[0])
				if when == "after" {
					wildcard(t, network, at[0].Port())
				}
				if got := reach(t, p, at[0]); got != at[0].String() {
					t.Errorf("LocalAddr %s, want %s", got, at[0])
				}
				if got := answers(t, fmt.Sprintf("127.0.0.1:%d", at[0].Port())); got != "mine" {
					t.Errorf("the user's server says %q", got)
				}
				if got := answers(t, at[1].String()); got != "mine" {
					t.Errorf("at an address that isn't ours the user's server says %q", got)
				}
				other := places(t, 1)[0].Port()
				wildcard(t, network, other)
				if at := netip.AddrPortFrom(at[0].Addr(), other); !refused(at) {
					t.Errorf("%v isn't the service's and accepts", at)
				}
				set(t, p)
				if got := answers(t, at[0].String()); got != "mine" {
					t.Errorf("at an address that isn't ours any more the user's server says %q", got)
				}
			})
		}
	}
}

// A server that listens at a service's very address and port doesn't get its
// connections either.
func TestLookupBeforeBoundSockets(t *testing.T) {
	p, at := newPorts(t, newLookup(t)), places(t, 1)
	l, err := net.Listen("tcp", at[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	set(t, p, at[0])
	if got := reach(t, p, at[0]); got != at[0].String() {
		t.Errorf("LocalAddr %s, want %s", got, at[0])
	}
}

// Not even the one socket's own port is in the way of a server on all addresses.
func TestLookupLeavesUsualPortsFree(t *testing.T) {
	taken, _, err := newLookup(t).Take(t.Context(), places(t, 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer taken[0].Close()
	if port := netip.MustParseAddrPort(taken[0].Addr().String()).Port(); port > 6 {
		t.Errorf("it has port %d, which programs of the user's may want", port)
	}
}

// While another port of the address comes and goes, no connection to it falls through
// to a user's server: it is accepted here, or refused.
func TestLookupNeverFallsThrough(t *testing.T) {
	const changes = 300
	p, at := newPorts(t, newLookup(t)), places(t, 1)[0]
	stays := netip.AddrPortFrom(at.Addr(), places(t, 1)[0].Port())
	set(t, p, stays)
	wildcard(t, "tcp4", at.Port())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := p.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("ours"))
			_ = conn.Close()
		}
	})
	done := make(chan struct{})
	running.Go(func() {
		defer close(done)
		for range changes {
			for _, want := range [][]netip.AddrPort{{stays, at}, {stays}} {
				if faults := p.Set(t.Context(), want); len(faults) > 0 {
					t.Error(faults)
				}
			}
		}
	})
	asked := 0
	for changing := true; changing; asked++ {
		select {
		case <-done:
			changing = false
		default:
		}
		if answersSoon(at.String()) == "mine" {
			t.Error("the user's server got a connection to a service's address")
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	running.Wait()
	t.Logf("%d connections during %d changes", asked, 2*changes)
}

// An address that can't be had is no fault of the others.
func TestLookupOfIPv6(t *testing.T) {
	p, at, six := newPorts(t, newLookup(t)), places(t, 1)[0], netip.MustParseAddrPort("[::1]:80")
	if faults := p.Set(t.Context(), []netip.AddrPort{six, at}); len(faults) != 1 || faults[six] == nil {
		t.Errorf("faults %v, want one of %v", faults, six)
	}
	if got := reach(t, p, at); got != at.String() {
		t.Errorf("LocalAddr %s, want %s", got, at)
	}
}

// Once the one who accepts is gone, what was taken refuses, and nobody else gets it.
func TestLookupWithoutOwnerRefuses(t *testing.T) {
	taker, at := newLookup(t), places(t, 1)
	p := listen.New(taker)
	set(t, p, at[0])
	wildcard(t, "tcp4", at[0].Port())
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if !refused(at[0]) {
		t.Error("it doesn't refuse")
	}
	if err := taker.Close(); err != nil {
		t.Fatal(err)
	}
	if got := answers(t, at[0].String()); got != "mine" {
		t.Errorf("after the end the user's server says %q", got)
	}
}

// What a killed process has taken is free at once, and two at once don't harm each other.
func TestLookupEndsWithItsProcess(t *testing.T) {
	mine, at := newPorts(t, newLookup(t)), places(t, 2)
	set(t, mine, at[1])
	wildcard(t, "tcp4", at[0].Port())
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), takerOf+"="+at[0].String())
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = command.Wait() }()
	defer func() { _ = command.Process.Kill() }()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "taken\n" {
		t.Fatal(line, err)
	}
	conn, err := net.Dial("tcp", at[0].String()) // it isn't accepted, but nobody else has it
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := reach(t, mine, at[1]); got != at[1].String() {
		t.Errorf("beside another one LocalAddr is %s, want %s", got, at[1])
	}
	began := time.Now()
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait() // killed
	for answersSoon(at[0].String()) != "mine" {
		if time.Since(began) > 10*time.Second {
			t.Fatal("it is not free")
		}
	}
	t.Logf("free after %v", time.Since(began))
	if got := reach(t, mine, at[1]); got != at[1].String() {
		t.Errorf("after its end LocalAddr is %s, want %s", got, at[1])
	}
}

func answersSoon(at string) string {
	conn, err := net.Dial("tcp", at)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	text := make([]byte, 4)
	n, _ := conn.Read(text)
	return string(text[:n])
}

// Whoever may not use sk_lookup is told, and has a socket for each port.
func TestWithoutRight(t *testing.T) {
	if os.Getenv("LISTEN_TEST_NO_RIGHT") == "" {
		if os.Geteuid() != 0 {
			t.Skip("needs root, to let go of it")
		}
		command := exec.Command(os.Args[0], "-test.run=^TestWithoutRight$", "-test.v")
		command.Env = append(os.Environ(), "LISTEN_TEST_NO_RIGHT=1")
		command.Dir = "/"
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		copied, err := os.ReadFile(os.Args[0])
		if err != nil {
			t.Fatal(err)
		}
		// Where the binary is, somebody else may not look.
		file, err := os.CreateTemp("", "listen.test")
		if err != nil {
			t.Fatal(err)
		}
		defer os.Remove(file.Name())
		_, err = file.Write(copied)
		if err := errors.Join(err, file.Chmod(0o755), file.Close()); err != nil {
			t.Fatal(err)
		}
		command.Path = file.Name()
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return
	}
	if _, err := listen.Open(t.Context(), listen.ModeLookup); err == nil || !strings.Contains(err.Error(), "CAP_BPF") {
		t.Errorf("sk_lookup: %v", err)
	}
	taker, err := listen.Open(t.Context(), listen.ModeAuto)
	if err != nil {
		t.Fatal(err)
	}
	if how := taker.How(); !strings.HasPrefix(how, "a socket for each port (no right to sk_lookup") {
		t.Error(how)
	}
}

// BenchmarkTake takes 10,000 ports, and says how many descriptors that costs, and how
// long a socket for each of 1,000 takes for each.
func BenchmarkTake(b *testing.B) {
	const many, few = 10_000, 1_000
	want := make([]netip.AddrPort, many)
	for i := range want {
		want[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 71, byte(i >> 8), byte(i)}), 8080)
	}
	var lookup, each time.Duration
	var descriptors int
	for range b.N {
		before := openFiles(b)
		taker := newLookup(b)
		began := time.Now()
		sockets, faults, err := taker.Take(b.Context(), want, nil)
		lookup += time.Since(began)
		if err != nil || len(faults) > 0 {
			b.Fatal(err, faults)
		}
		descriptors = openFiles(b) - before
		began = time.Now()
		more, faults, err := listen.NewEach("test").Take(b.Context(), want[:few], nil)
		each += time.Since(began)
		if err != nil || len(faults) > 0 {
			b.Fatal(err, faults)
		}
		for _, s := range append(sockets, more...) {
			_ = s.Close()
		}
	}
	b.ReportMetric(float64(lookup.Microseconds())/1000/float64(b.N), "ms/10000-ports")
	b.ReportMetric(float64(each)/few/(float64(lookup)/many), "each/lookup")
	b.ReportMetric(float64(descriptors), "descriptors")
}

func openFiles(b *testing.B) int {
	b.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		b.Fatal(err)
	}
	return len(entries)
}
