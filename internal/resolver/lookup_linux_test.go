package resolver

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLookup(t *testing.T) {
	got, err := Lookup(t.Context(), "localhost")
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil || !slices.Contains(got, netip.AddrFrom4([4]byte{127, 0, 0, 1})) {
		t.Errorf("got %v and error %v, want 127.0.0.1", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Lookup(ctx, "localhost"); !errors.Is(err, context.Canceled) {
		t.Errorf("after the context's end: got error %v, want %v", err, context.Canceled)
	}
}

// inNamespace is the environment variable of the test that runs in its own mount
// namespace.
const inNamespace = "RESOLVER_TEST_IN_NAMESPACE"

// A name in the hosts file is found only if nsswitch.conf has files.
func TestLookupDependsOnNsswitch(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	if os.Getenv(inNamespace) == "" {
		command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		command.Env = append(os.Environ(), inNamespace+"=1")
		command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		if output, err := command.CombinedOutput(); err != nil || !bytes.Contains(output, []byte("--- PASS: "+t.Name())) {
			t.Errorf("%v\n%s", err, output)
		}
		return
	}
	bind := func(target, content string) {
		t.Helper()
		source := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(source, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
	}
	bind("/etc/hosts", "127.64.0.1 web.shop.invalid\n")
	bind("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
	bind("/etc/nsswitch.conf", "hosts: files\n")
	if got, err := Lookup(t.Context(), "web.shop.invalid"); err != nil || !slices.Equal(got, []netip.Addr{netip.MustParseAddr("127.64.0.1")}) {
		t.Errorf("with files: got %v and error %v, want 127.64.0.1", got, err)
	}
	bind("/etc/nsswitch.conf", "hosts: myhostname\n")
	if got, err := Lookup(t.Context(), "web.shop.invalid"); !errors.Is(err, ErrNotFound) {
		t.Errorf("without files: got %v and error %v, want %v", got, err, ErrNotFound)
	}
}
