package fwd_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kubeshore/kubeshore/pkg/fwd"
	"github.com/kubeshore/kubeshore/pkg/hosts"
	"github.com/kubeshore/kubeshore/pkg/plan"
)

// countingNames is a hosts file that counts its writes.
type countingNames struct {
	*hosts.File
	path   string
	writes atomic.Int32
	set    chan struct{} // receives after each Set
}

func (c *countingNames) Set(ctx context.Context, table map[netip.Addr][]string) (map[string]error, error) {
	before, _ := os.Stat(c.path)
	refused, err := c.File.Set(ctx, table)
	if after, _ := os.Stat(c.path); !os.SameFile(before, after) {
		c.writes.Add(1)
	}
	select {
	case c.set <- struct{}{}:
	default:
	}
	return refused, err
}

// A thousand Services that are added one by one need only a few writes.
func TestWritesAreBatched(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(path, []byte("127.0.0.1 localhost\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := hosts.Open(path, "1000")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	h, s := newHost(), newSource()
	names := &countingNames{File: file, path: path, set: make(chan struct{}, 1)}
	stop := start(t, &fwd.Engine{Source: s, Aliases: fakeAliases{h}, Names: names, Ports: fakePorts{h, make(chan struct{})}})
	services := make([]plan.Service, 0, 1000)
	for i := range cap(services) {
		services = append(services, service(fmt.Sprintf("s%d", i), "a"))
		s.set(services...)
	}
	for {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(content), " s999.ns ") {
			break
		}
		<-names.set
	}
	if n := names.writes.Load(); n > 5 {
		t.Errorf("the hosts file was written %d times, want at most 5", n)
	} else {
		t.Logf("the hosts file was written %d times", n)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != "127.0.0.1 localhost\n" {
		t.Errorf("got hosts file %q, %v", content, err)
	}
}
