//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// In a container the hosts file is a bind mount, which can't be renamed over.
func TestHostsFileIsABindMount(t *testing.T) {
	ns := namespace(t)
	apply(t, service(ns, "web", 80, ""))
	source, target := filepath.Join(t.TempDir(), "source"), filepath.Join(t.TempDir(), "hosts")
	const before = "127.0.0.1 localhost # no line end"
	for _, path := range []string{source, target} {
		if err := os.WriteFile(path, []byte(before), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mount(source, target, "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Unmount(target, 0) }()
	d := up(t, "-n", ns, "--hosts-file", target)
	if has, _ := os.ReadFile(source); !strings.Contains(string(has), " web."+ns+" ") {
		t.Errorf("it has\n%s", has)
	}
	d.stop(t, syscall.SIGTERM)
	if after, _ := os.ReadFile(source); string(after) != before {
		t.Errorf("it had %q and has %q", before, after)
	}
}
