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

// newLookup returns a Lookup. It skips the test where that needs root.
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

// startWildcardServer starts the user's own server, which listens at all addresses
// and responds with "mine".
func startWildcardServer(t *testing.T, network string, port uint16) {
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

// dial returns the first four bytes that a server at an address sends, or the
// text of the error.
func dial(at string) string {
	conn, err := net.Dial("tcp", at)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	text := make([]byte, 4)
	n, _ := conn.Read(text)
	return string(text[:n])
}

// checkReachesWildcardServer checks that a connection reaches the user's server.
func checkReachesWildcardServer(t *testing.T, at string) {
	t.Helper()
	if got := dial(at); got != "mine" {
		t.Errorf("%s: got %q, want the response of the user's server", at, got)
	}
}

// The user's server listens on a service's port at all addresses, from before or
// after, and both work. Another port of the service's address refuses, even if
// the server listens on it.
func TestLookupWithServerAtAllAddresses(t *testing.T) {
	for _, network := range []string{"tcp4", "tcp"} { // the latter's [::] includes IPv4
		for _, when := range []string{"before", "after"} {
			t.Run(network+" "+when, func(t *testing.T) {
				p, at := newPorts(t, newLookup(t)), freePorts(t, 2)
				if when == "before" {
					startWildcardServer(t, network, at[0].Port())
				}
				mustSet(t, p, at[0])
				if when == "after" {
					startWildcardServer(t, network, at[0].Port())
				}
				checkAccepts(t, p, at[0])
				checkReachesWildcardServer(t, fmt.Sprintf("127.0.0.1:%d", at[0].Port()))
				checkReachesWildcardServer(t, at[1].String()) // not an address of Ports
				otherPort := freePorts(t, 1)[0].Port()
				startWildcardServer(t, network, otherPort)
				if other := netip.AddrPortFrom(at[0].Addr(), otherPort); !isRefused(other) {
					t.Errorf("%v isn't in the set, but isn't refused", other)
				}
				mustSet(t, p)
				checkReachesWildcardServer(t, at[0].String()) // not an address of Ports any more
			})
		}
	}
}

// A server that listens at exactly a service's address and port gets none of the
// service's connections.
func TestLookupPrecedesBoundSockets(t *testing.T) {
	p, at := newPorts(t, newLookup(t)), freePorts(t, 1)
	l, err := net.Listen("tcp", at[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	mustSet(t, p, at[0])
	checkAccepts(t, p, at[0])
}

// The port of the shared socket is one on which no server listens at all addresses.
func TestLookupSocketHasUnusedPort(t *testing.T) {
	sockets, _, err := newLookup(t).Take(t.Context(), freePorts(t, 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer sockets[0].Close()
	if port := netip.MustParseAddrPort(sockets[0].Addr().String()).Port(); port > 6 {
		t.Errorf("got port %d, want 1 to 6", port)
	}
}

// While a port is added to and removed from the set, each connection to it is
// accepted or refused. None reaches the user's server.
func TestLookupNeverFallsThrough(t *testing.T) {
	const changes = 300
	p, at := newPorts(t, newLookup(t)), freePorts(t, 1)[0]
	permanent := netip.AddrPortFrom(at.Addr(), freePorts(t, 1)[0].Port())
	mustSet(t, p, permanent)
	startWildcardServer(t, "tcp4", at.Port())
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
			for _, want := range [][]netip.AddrPort{{permanent, at}, {permanent}} {
				if portErrors := p.Set(t.Context(), want); len(portErrors) > 0 {
					t.Errorf("got port errors %v, want none", portErrors)
				}
			}
		}
	})
	connections := 0
	for changing := true; changing; connections++ {
		select {
		case <-done:
			changing = false
		default:
		}
		if dial(at.String()) == "mine" {
			t.Error("the user's server got a connection to a service's address")
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	running.Wait()
	t.Logf("%d connections during %d changes", connections, 2*changes)
}

func TestLookupRejectsOnlyIPv6(t *testing.T) {
	p, at, six := newPorts(t, newLookup(t)), freePorts(t, 1)[0], netip.MustParseAddrPort("[::1]:80")
	if portErrors := p.Set(t.Context(), []netip.AddrPort{six, at}); len(portErrors) != 1 || portErrors[six] == nil {
		t.Errorf("got port errors %v, want one for %v", portErrors, six)
	}
	checkAccepts(t, p, at)
}

// After Ports has closed, its ports refuse until the Taker closes. No other
// server gets the connections.
func TestLookupRefusesWithoutSocket(t *testing.T) {
	taker, at := newLookup(t), freePorts(t, 1)
	p := listen.New(taker)
	mustSet(t, p, at[0])
	startWildcardServer(t, "tcp4", at[0].Port())
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if !isRefused(at[0]) {
		t.Errorf("%v isn't refused after Ports has closed", at[0])
	}
	if err := taker.Close(); err != nil {
		t.Fatal(err)
	}
	checkReachesWildcardServer(t, at[0].String())
}

// When a process is killed, its ports are free immediately. Two processes with a
// Lookup don't affect each other.
func TestLookupEndsWithItsProcess(t *testing.T) {
	p, at := newPorts(t, newLookup(t)), freePorts(t, 2)
	mustSet(t, p, at[1])
	startWildcardServer(t, "tcp4", at[0].Port())
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), listenerEnv+"="+at[0].String())
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = command.Wait() }()
	defer func() { _ = command.Process.Kill() }()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "listening\n" {
		t.Fatalf("got line %q (%v), want %q", line, err, "listening\n")
	}
	conn, err := net.Dial("tcp", at[0].String()) // the process has a socket, but accepts nothing
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	checkAccepts(t, p, at[1])
	start := time.Now()
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait() // killed
	for dial(at[0].String()) != "mine" {
		if time.Since(start) > 10*time.Second {
			t.Fatalf("%v isn't free 10s after the process was killed", at[0])
		}
	}
	t.Logf("free after %v", time.Since(start))
	checkAccepts(t, p, at[1])
}

// unprivilegedEnv makes TestOpenWithoutCapabilities the process without privileges.
const unprivilegedEnv = "LISTEN_TEST_UNPRIVILEGED"

// Without the capabilities for sk_lookup, ModeLookup fails, and ModeAuto falls back
// to one socket per port.
func TestOpenWithoutCapabilities(t *testing.T) {
	if os.Getenv(unprivilegedEnv) == "" {
		if os.Geteuid() != 0 {
			t.Skip("dropping privileges needs root")
		}
		command := exec.Command(os.Args[0], "-test.run=^TestOpenWithoutCapabilities$", "-test.v")
		command.Env = append(os.Environ(), unprivilegedEnv+"=1")
		command.Dir = "/"
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		binary, err := os.ReadFile(os.Args[0])
		if err != nil {
			t.Fatal(err)
		}
		// Other users can't read the directory of the original.
		file, err := os.CreateTemp("", "listen.test")
		if err != nil {
			t.Fatal(err)
		}
		defer os.Remove(file.Name())
		_, err = file.Write(binary)
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
		t.Errorf("ModeLookup: got error %v, want one that names CAP_BPF", err)
	}
	taker, err := listen.Open(t.Context(), listen.ModeAuto)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := taker.How(), "one socket per port (sk_lookup needs CAP_BPF"; !strings.HasPrefix(got, want) {
		t.Errorf("ModeAuto: got %q, want the prefix %q", got, want)
	}
}

// BenchmarkTake measures how long a Lookup takes for 10,000 ports, how many
// descriptors it uses, and how much longer Each takes per port.
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
		start := time.Now()
		sockets, portErrors, err := taker.Take(b.Context(), want, nil)
		lookup += time.Since(start)
		if err != nil || len(portErrors) > 0 {
			b.Fatal(err, portErrors)
		}
		descriptors = openFiles(b) - before
		start = time.Now()
		more, portErrors, err := listen.NewEach("test").Take(b.Context(), want[:few], nil)
		each += time.Since(start)
		if err != nil || len(portErrors) > 0 {
			b.Fatal(err, portErrors)
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
