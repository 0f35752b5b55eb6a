package machine

import (
	"errors"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/pkg/listen"
)

// newClaims returns the claims of another process of root.
func newClaims(t *testing.T, dir, owner string) *fileClaims {
	t.Helper()
	c, err := openClaims(dir, owner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.close() })
	return c.(*fileClaims)
}

// needRoot skips a test that can't claim addresses.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root claims addresses")
	}
}

func addrSet(texts ...string) map[netip.Addr]bool {
	addrs := make(map[netip.Addr]bool)
	for _, text := range texts {
		addrs[netip.MustParseAddr(text)] = true
	}
	return addrs
}

// expectRefused claims addresses, and checks which are refused, and why.
func expectRefused(t *testing.T, c claims, claim map[netip.Addr]bool, reason string, want ...string) {
	t.Helper()
	refused, err := c.claim(t.Context(), claim)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[netip.Addr]bool)
	for addr, err := range refused {
		got[addr] = true
		if !strings.Contains(err.Error(), reason) {
			t.Errorf("%v: got error %v, want it to contain %q", addr, err, reason)
		}
	}
	if !maps.Equal(got, addrSet(want...)) {
		t.Errorf("got refused addresses %v, want %v", got, want)
	}
}

func TestAddressIsClaimedOnce(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "claims")
	ann, bob := newClaims(t, dir, "4242"), newClaims(t, dir, "4243")
	expectRefused(t, ann, addrSet("127.89.0.1", "127.89.0.2"), "")
	const reason = "is used by kubeshore of user 4242 (pid "
	expectRefused(t, bob, addrSet("127.89.0.2", "127.89.0.3"), reason, "127.89.0.2")
	expectRefused(t, ann, addrSet("127.89.0.1", "127.89.0.3"), "is used by kubeshore of user 4243 (pid ", "127.89.0.3")
	expectRefused(t, bob, addrSet("127.89.0.1", "127.89.0.2"), reason, "127.89.0.1", "127.89.0.2")
	if err := ann.release(t.Context(), addrSet("127.89.0.1")); err != nil {
		t.Fatal(err)
	}
	expectRefused(t, bob, addrSet("127.89.0.1", "127.89.0.2"), reason, "127.89.0.1")
	if err := ann.close(); err != nil {
		t.Fatal(err)
	}
	expectRefused(t, bob, addrSet("127.89.0.1"), "")
}

// The claims of a killed process end with it, and its file is removed.
func TestClaimsEndWithTheirProcess(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "claims")
	killed, other := newClaims(t, dir, "4242"), newClaims(t, dir, "4243")
	expectRefused(t, killed, addrSet("127.89.0.1"), "")
	if err := killed.file.Close(); err != nil { // as the kernel does
		t.Fatal(err)
	}
	expectRefused(t, other, addrSet("127.89.0.1"), "")
	if _, err := os.Stat(killed.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("file of the killed process: got %v, want it to be removed", err)
	}
}

// Clean removes the claims of killed processes, and the directory with the last one. It
// keeps those of running processes, and those that are being written.
func TestCleanClaims(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "claims")
	expectCleaned := func(want ...string) {
		t.Helper()
		cleaned, err := cleanClaims(t.Context(), dir)
		if err != nil || len(cleaned.Left) > 0 || !slices.Equal(cleaned.Removed, want) {
			t.Errorf("got %+v, %v; want %q to be removed", cleaned, err, want)
		}
	}
	expectCleaned()
	killed, running := newClaims(t, dir, "4242"), newClaims(t, dir, "4243")
	expectRefused(t, killed, addrSet("127.89.0.1"), "")
	expectRefused(t, running, addrSet("127.89.0.2"), "")
	if err := killed.file.Close(); err != nil { // as the kernel does
		t.Fatal(err)
	}
	expectCleaned(killed.path)
	expectCleaned()
	expectRefused(t, newClaims(t, dir, "4242"), addrSet("127.89.0.2"), "is used by kubeshore of user 4243", "127.89.0.2")
	if err := running.file.Close(); err != nil {
		t.Fatal(err)
	}
	expectCleaned(running.path, dir)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory: got %v, want it to be removed", err)
	}
}

// A directory that others can write to isn't cleaned: root would remove files of their
// choice.
func TestCleanClaimsInDirectoryOfOthers(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	file := filepath.Join(dir, claimsPrefix+"1")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	if cleaned, err := cleanClaims(t.Context(), dir); err == nil || len(cleaned.Removed) > 0 {
		t.Errorf("got %+v, %v; want an error", cleaned, err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

// Of processes that claim an address at the same moment, one gets it.
func TestConcurrentClaims(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "claims")
	var wg sync.WaitGroup
	var mu sync.Mutex
	granted := 0
	for range 8 {
		c := newClaims(t, dir, "4242")
		wg.Go(func() {
			refused, err := c.claim(t.Context(), addrSet("127.89.0.1"))
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			granted += 1 - len(refused)
		})
	}
	wg.Wait()
	if granted != 1 {
		t.Errorf("%d processes got the address, want 1", granted)
	}
}

// A process that isn't root's respects the claims of root's, also for addresses
// that it had first, and claims nothing.
func TestClaimsWithoutRoot(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "claims")
	rootless := &fileClaims{dir: dir, owner: "4243"}
	expectRefused(t, rootless, addrSet("127.89.0.1"), "") // no directory
	root := newClaims(t, dir, "4242")
	rootless.namespace = root.namespace
	expectRefused(t, root, addrSet("127.89.0.1"), "")
	expectRefused(t, rootless, addrSet("127.89.0.1", "127.89.0.2"), "used by kubeshore of user 4242", "127.89.0.1")
	expectRefused(t, root, addrSet("127.89.0.2"), "")
}

// The last process removes the directory, while others come and go.
func TestClaimsLeaveNothing(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "claims")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 20 {
				c, err := openClaims(dir, "4242")
				if err != nil {
					t.Error(err)
					return
				}
				refused, err := c.claim(t.Context(), map[netip.Addr]bool{netip.AddrFrom4([4]byte{127, 89, 0, byte(i + 1)}): true})
				if err = errors.Join(err, c.close()); err != nil || len(refused) > 0 {
					t.Errorf("got refused %v, error %v; want neither", refused, err)
				}
			}
		})
	}
	wg.Wait()
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory: got %v, want it to be removed", err)
	}
}

func TestClaimsOfOtherNetworkNamespaces(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "claims")
	ann, bob := newClaims(t, dir, "4242"), newClaims(t, dir, "4243")
	ann.namespace = "net:[1]"
	expectRefused(t, ann, addrSet("127.89.0.1"), "")
	expectRefused(t, bob, addrSet("127.89.0.1"), "")
}

// Nobody but root can keep addresses from others.
func TestClaimsDirectoryOfOthers(t *testing.T) {
	needRoot(t)
	target := t.TempDir()
	for name, change := range map[string]func(dir string) error{
		"writable by others": func(dir string) error { return errors.Join(os.Mkdir(dir, 0o755), os.Chmod(dir, 0o777)) },
		"other owner":        func(dir string) error { return errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, 4242, 4242)) },
		"link":               func(dir string) error { return os.Symlink(target, dir) },
		"file":               func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
	} {
		dir := filepath.Join(t.TempDir(), "claims")
		if err := change(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := openClaims(dir, "4242"); err == nil || !strings.Contains(err.Error(), "must be a directory that only root can write to") {
			t.Errorf("%s: got error %v, want the directory to be refused", name, err)
		}
	}
}

// exclusive returns the ports of a process of root.
func exclusive(t *testing.T, dir, hostsFile, owner string, mode listen.Mode) *listen.Ports {
	t.Helper()
	taker, err := listen.Open(t.Context(), mode)
	if err != nil {
		t.Skip(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	p := withClaims(taker, Options{HostsFile: hostsFile, Owner: owner}, log)
	p.claims = newClaims(t, dir, owner)
	ports := listen.New(p)
	t.Cleanup(func() { _ = errors.Join(ports.Close(), p.Close()) })
	return ports
}

// Each of two processes gets only the connections to its own addresses, whichever
// started first.
func TestAddressesAreExclusive(t *testing.T) {
	needRoot(t)
	for _, modes := range [][2]listen.Mode{
		{listen.ModeLookup, listen.ModeLookup}, {listen.ModeLookup, listen.ModeEach}, {listen.ModeEach, listen.ModeLookup}, {listen.ModeEach, listen.ModeEach},
	} {
		t.Run(string(modes[0]+"+"+modes[1]), func(t *testing.T) {
			dir, file := filepath.Join(t.TempDir(), "claims"), filepath.Join(t.TempDir(), "hosts")
			first, second := exclusive(t, dir, file, "4242", modes[0]), exclusive(t, dir, file, "4243", modes[1])
			at := netip.MustParseAddrPort("127.89.0.5:8089")
			own := netip.MustParseAddrPort("127.89.0.6:8089")
			if errs := second.Set(t.Context(), []netip.AddrPort{at}); len(errs) > 0 {
				t.Fatal(errs)
			}
			errs := first.Set(t.Context(), []netip.AddrPort{at, own})
			if len(errs) != 1 || errs[at] == nil || !strings.Contains(errs[at].Error(), "address 127.89.0.5 is used by kubeshore of user 4243 (pid ") {
				t.Errorf("got errors %v, want that %v is in use", errs, at)
			}
			expectAccepted(t, second, at)
			expectAccepted(t, first, own)
			second.Set(t.Context(), nil)
			if errs := first.Set(t.Context(), []netip.AddrPort{at, own}); len(errs) > 0 {
				t.Errorf("after the other process released the address: got %v, want no errors", errs)
			}
			expectAccepted(t, first, at)
		})
	}
}

// expectAccepted connects, and checks that ports accepts that connection.
func expectAccepted(t *testing.T, ports *listen.Ports, at netip.AddrPort) {
	t.Helper()
	conn, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	accepted := make(chan string, 1)
	go func() {
		conn, err := ports.Accept()
		if err != nil {
			accepted <- err.Error()
			return
		}
		accepted <- conn.RemoteAddr().String()
		_ = conn.Close()
	}()
	if got := <-accepted; got != conn.LocalAddr().String() {
		t.Errorf("got a connection of %s, want that of %s", got, conn.LocalAddr())
	}
}

// An address with names of another owner, e.g. in a container with the same hosts
// file, is refused until the names are gone.
func TestAddressWithNamesOfAnotherOwner(t *testing.T) {
	needRoot(t)
	file := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(file, []byte("127.0.0.1 localhost\n127.89.0.5 web.shop # kubeshore 4243\n127.89.0.6 db.shop # kubeshore 4242\n127.89.0.7 mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ports := exclusive(t, filepath.Join(t.TempDir(), "claims"), file, "4242", listen.ModeEach)
	want := []netip.AddrPort{
		netip.MustParseAddrPort("127.89.0.5:8089"), netip.MustParseAddrPort("127.89.0.6:8089"), netip.MustParseAddrPort("127.89.0.7:8089"),
	}
	errs := ports.Set(t.Context(), want)
	if len(errs) != 1 || errs[want[0]] == nil || !strings.Contains(errs[want[0]].Error(), "has names of kubeshore of user 4243 in the hosts file") {
		t.Errorf("got errors %v, want one for %v", errs, want[0])
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if errs := ports.Set(t.Context(), want); len(errs) > 0 {
		t.Errorf("without the names: got %v, want no errors", errs)
	}
}
