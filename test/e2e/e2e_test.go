//go:build e2e

// Package e2e tests the real program as users run it: against the cluster that
// KUBECONFIG names, with this machine's hosts file, resolver and sockets. The
// tests need root, kubectl, Debian's clients (see make clients), and the images
// kubeshore.test/go-ok:1, kubeshore.test/peer:1 and kubeshore.test/servers:1 in
// the cluster (bin/images).
package e2e

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	hostsFile        = "/etc/hosts"
	conditionTimeout = 60 * time.Second // e.g. for a pod to start or stop
)

// program is the program under test. kubectlProgram is kubectl.
var program, kubectlProgram string

func TestMain(m *testing.M) {
	if err := findPrograms(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	cache, err := os.MkdirTemp("", "kubeshore-e2e")
	if err != nil {
		panic(err)
	}
	_ = os.Setenv("KUBECACHEDIR", cache)   // keeps kubectl's cache out of the home directory
	_ = os.Setenv("GODEBUG", "netdns=cgo") // Go's own resolver caches the hosts file
	code := m.Run()
	_ = os.RemoveAll(cache)
	os.Exit(code)
}

func findPrograms() error {
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		return err
	}
	program = filepath.Join(bin, "kubeshore")
	if _, err := os.Stat(program); err != nil {
		return fmt.Errorf("%w; run make e2e", err)
	}
	if kubectlProgram, err = exec.LookPath(cmp.Or(os.Getenv("KUBECTL"), "kubectl")); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("tests change %s; run them as root", hostsFile)
	}
	if out, err := exec.Command(kubectlProgram, "get", "namespaces").CombinedOutput(); err != nil {
		return fmt.Errorf("connect to cluster of KUBECONFIG=%s: %s", os.Getenv("KUBECONFIG"), out)
	}
	return nil
}

// kubectl runs kubectl with the given input and returns its output.
func kubectl(t *testing.T, input string, args ...string) string {
	t.Helper()
	cmd := exec.Command(kubectlProgram, args...)
	cmd.Stdin = strings.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("kubectl %s: %v: %s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

func apply(t *testing.T, manifests ...string) {
	t.Helper()
	kubectl(t, strings.Join(manifests, "\n---\n"), "apply", "-f", "-")
}

// newNamespace creates a namespace for the test.
func newNamespace(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("e2e-%x", time.Now().UnixNano()&0xffffffff)
	kubectl(t, "", "create", "namespace", name)
	t.Cleanup(func() { kubectl(t, "", "delete", "namespace", name, "--wait=false", "--ignore-not-found") })
	return name
}

// namespaceWithWeb creates a namespace with a Service web that has a ready
// pod.
func namespaceWithWeb(t *testing.T) (ns string) {
	t.Helper()
	ns = newNamespace(t)
	apply(t, deployment(ns, "web", 1), service(ns, "web", 80, ""))
	waitForReadyPods(t, ns, "web", 1)
	return ns
}

// waitForReadyPods waits until the app has exactly n ready pods.
func waitForReadyPods(t *testing.T, namespace, app string, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s has %d ready pods", app, n), func() error {
		out := kubectl(t, "", "-n", namespace, "get", "endpointslices", "-l", "kubernetes.io/service-name="+app,
			"-o", "jsonpath={.items[*].endpoints[*].conditions.ready}")
		if got := strings.Count(out, "true"); got != n {
			return fmt.Errorf("got %d", got)
		}
		return nil
	})
}

// eventually calls check until it returns no error, and returns how long that
// took.
func eventually(t *testing.T, condition string, check func() error) time.Duration {
	t.Helper()
	begin := time.Now()
	for {
		err := check()
		if err == nil {
			return time.Since(begin)
		}
		if time.Since(begin) > conditionTimeout {
			t.Fatalf("%s: not within %v: %v", condition, conditionTimeout, err)
		}
		pause(t, 20*time.Millisecond) // between polls
	}
}

// pause waits for d, or fails the test when its context ends.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	case <-time.After(d):
	}
}

// runCommand runs a program, which has to succeed, and returns its output.
func runCommand(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}
