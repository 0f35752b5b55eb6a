//go:build e2e

// Package e2e has the tests of what a user does: the real program, against the
// real cluster that KUBECONFIG names, with this machine's own hosts file,
// resolver and sockets. They need root, kubectl, and the images
// kubeshore.test/go-ok:1 and kubeshore.test/peer:1 in the cluster (bin/images).
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
	conditionTimeout = 60 * time.Second // for a pod to come or go; a condition that holds ends it at once
)

// program is the program under test, kubectl what speaks to the cluster.
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
	_ = os.Setenv("KUBECACHEDIR", cache)   // kubectl's, else in the home
	_ = os.Setenv("GODEBUG", "netdns=cgo") // Go's own resolver sees a new name late
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
		return fmt.Errorf("%w: run make e2e", err)
	}
	if kubectlProgram, err = exec.LookPath(cmp.Or(os.Getenv("KUBECTL"), "kubectl")); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("the tests write %s: run them as root", hostsFile)
	}
	if out, err := exec.Command(kubectlProgram, "get", "namespaces").CombinedOutput(); err != nil {
		return fmt.Errorf("no cluster at KUBECONFIG=%s: %s", os.Getenv("KUBECONFIG"), out)
	}
	return nil
}

// kubectl runs kubectl with the input given and returns what it printed.
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

// newNamespace makes a namespace for the test alone.
func newNamespace(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("e2e-%x", time.Now().UnixNano()&0xffffffff)
	kubectl(t, "", "create", "namespace", name)
	t.Cleanup(func() { kubectl(t, "", "delete", "namespace", name, "--wait=false", "--ignore-not-found") })
	return name
}

// namespaceWithWeb returns a namespace of the test's own, with a Service web whose pod is ready.
func namespaceWithWeb(t *testing.T) (ns string) {
	t.Helper()
	ns = newNamespace(t)
	apply(t, deployment(ns, "web", 1), service(ns, "web", 80, ""))
	waitForReadyPods(t, ns, "web", 1)
	return ns
}

// waitForReadyPods waits until that many pods of the app are ready.
func waitForReadyPods(t *testing.T, namespace, app string, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d ready pods of %s", n, app), func() error {
		out := kubectl(t, "", "-n", namespace, "get", "endpointslices", "-l", "kubernetes.io/service-name="+app,
			"-o", "jsonpath={.items[*].endpoints[*].conditions.ready}")
		if got := strings.Count(out, "true"); got != n {
			return fmt.Errorf("%d are", got)
		}
		return nil
	})
}

// eventually asks again and again until it gets no error, and returns how long
// that took.
func eventually(t *testing.T, what string, ask func() error) time.Duration {
	t.Helper()
	begin := time.Now()
	for {
		err := ask()
		if err == nil {
			return time.Since(begin)
		}
		if time.Since(begin) > conditionTimeout {
			t.Fatalf("%s: not after %v: %v", what, conditionTimeout, err)
		}
		pause(t, 20*time.Millisecond) // between questions, not a wait for anything
	}
}

// pause lets time pass.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	case <-time.After(d):
	}
}
