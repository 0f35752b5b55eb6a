//go:build !windows

package kube

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kubeshore/kubeshore/pkg/credential"
)

// A pipe is read once, by its descriptor or its path. Files with it in KUBECONFIG are
// merged, and another process can use its content.
func TestKubeconfigFromPipe(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(writer, twoContexts)
	_ = writer.Close()
	descriptor := fmt.Sprintf("/dev/fd/%d", reader.Fd())
	plugins := credential.NewPlugins(nil, nil)
	k := NewKubeconfig(descriptor, "agent", plugins, nil)
	for _, name := range []string{"dev", "prod", "dev"} {
		if c, err := k.Load(t.Context(), name); err != nil || c.Context != name {
			t.Errorf("%s: got %v, %v", name, c, err)
		}
	}
	_ = reader.Close()
	kept, err := k.Kept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c, err := NewKubeconfig(descriptor, "agent", plugins, kept).Load(t.Context(), ""); err != nil || c.Context != "dev" {
		t.Errorf("handed over: got %v, %v", c, err)
	}
	t.Setenv("KUBECONFIG", kubeconfig(t, "current-context: prod")+":"+descriptor)
	if c, err := NewKubeconfig("", "agent", plugins, kept).Load(t.Context(), ""); err != nil || c.Context != "prod" {
		t.Errorf("merged: got %v, %v", c, err)
	}
}

// A pipe without a writer blocks nobody for longer than they wait.
func TestKubeconfigThatBlocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Skip(err)
	}
	k := NewKubeconfig(path, "agent", credential.NewPlugins(nil, nil), nil)
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := k.Load(ctx, ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want that the time is over", err)
		}
		cancel()
	}
	if err := os.WriteFile(path, []byte(twoContexts), 0o600); err != nil { // ends the goroutine
		t.Fatal(err)
	}
	if c, err := k.Load(t.Context(), ""); err != nil || c.Context != "dev" {
		t.Errorf("after a write: got %v, %v", c, err)
	}
}

// The tokens of a kubeconfig from a pipe are refreshed once, and kept in memory, also when
// the kubeconfig is loaded again because another of its files has changed.
func TestOIDCFromPipe(t *testing.T) {
	s := newOIDCServers(t)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	if _, err := write.WriteString(s.kubeconfig()); err != nil {
		t.Fatal(err)
	}
	if err := write.Close(); err != nil {
		t.Fatal(err)
	}
	k := NewKubeconfig(fmt.Sprintf("/dev/fd/%d", read.Fd()), "agent", credential.NewPlugins(nil, nil), nil)
	cluster, err := k.Load(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s.wantToken(t, cluster, s.fresh)
		again, err := k.Load(t.Context(), "")
		if err != nil || !again.same(cluster) {
			t.Fatalf("loaded again: got %v, or a different entry", err)
		}
		if err := cluster.Gate.Refresh(again.Config); err != nil {
			t.Error(err)
		}
	}
	if n := s.refreshes.Load(); n != 1 {
		t.Errorf("got %d refreshes, want 1", n)
	}
}
