//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/test/netem"
	"github.com/kubeshore/kubeshore/test/peer"
)

// ownCluster returns the program of the test cluster, and reports whether the
// tests run against that cluster.
func ownCluster() (clusterProgram string, own bool) {
	clusterProgram, err := filepath.Abs("../../bin/cluster")
	if err != nil {
		return "", false
	}
	kubeconfig, err := exec.Command(clusterProgram, "kubeconfig").Output()
	return clusterProgram, err == nil && strings.TrimSpace(string(kubeconfig)) == os.Getenv("KUBECONFIG")
}

// The API server is killed and restarted. Forwarding then works again, and
// connections from before have ended.
func TestForwardingRecoversFromAPIServerRestart(t *testing.T) {
	clusterProgram, own := ownCluster()
	if !own {
		t.Skip("not the test cluster, so its API server must not be killed")
	}
	ns, host := namespaceWithPeer(t)
	apply(t, deployment(ns, "web", 1), service(ns, "web", 80, ""))
	waitForReadyPods(t, ns, "web", 1)
	d := up(t, "-n", ns)
	established := openConn(t, host, peer.Echo, "")
	if _, err := exchange(established, "x", "x"); err != nil {
		t.Fatal(err)
	}
	from := d.logLen()
	var unavailable, connected, added time.Duration
	attempts := underLoad("http://web."+ns, 50*time.Millisecond, func() {
		pause(t, time.Second)
		if out, err := exec.Command(clusterProgram, "kill", "kube-apiserver").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		unavailable = eventually(t, "the API server is ready", apiReady)
		connected = eventually(t, "a new connection works", answered("http://web."+ns))
		apply(t, strings.Replace(service(ns, "new", 80, ""), "app: new", "app: web", 1))
		added = eventually(t, "a new service answers", answered("http://new."+ns))
		pause(t, time.Second)
	})
	t.Logf("API server unavailable for %v; then connections worked after %v, and a new service answered after %v; %s",
		unavailable, connected, added, summarize(attempts))
	if connected > 10*time.Second {
		t.Errorf("connections worked after %v, want 10s at most", connected)
	}
	after := attempts[len(attempts)-1].at - time.Second
	for _, a := range failed(attempts) {
		if a.at > after {
			t.Errorf("connection after the recovery: got %v, want no error", a.err)
		}
	}
	if err := established.SetDeadline(time.Now().Add(conditionTimeout)); err != nil {
		t.Fatal(err)
	}
	if _, err := exchange(established, "", neverSent); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("connection from before the restart: got %v, want it to end", err)
	}
	d.checkBriefLog(t, from, "API server", 6)
	if d.ProcessState != nil {
		t.Error("kubeshore exited")
	}
}

// apiReady returns nil if the API server is ready.
func apiReady() error {
	out, err := exec.Command(kubectlProgram, "--request-timeout=2s", "get", "--raw", "/readyz").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if string(out) != "ok" {
		return fmt.Errorf("got %q, want ok", out)
	}
	return nil
}

// checkBriefLog checks that the log after the first from bytes has a line with
// text, and no more than maxLines lines. Lines about services that were added,
// changed or removed don't count.
func (d *daemon) checkBriefLog(t *testing.T, from int, text string, maxLines int) {
	t.Helper()
	var lines []string
	found := false
	for _, line := range d.linesSince(from) {
		_, msg, _ := strings.Cut(line, `msg="`)
		if strings.HasPrefix(msg, "+ ") || strings.HasPrefix(msg, "~ ") || strings.HasPrefix(msg, "- ") {
			continue
		}
		lines = append(lines, line)
		found = found || strings.Contains(line, text)
	}
	if !found || len(lines) > maxLines {
		t.Errorf("got log\n%s\nwant a line with %q, and %d lines at most", strings.Join(lines, "\n"), text, maxLines)
	}
}

// The network to the API server is slow and then drops everything for a while.
// Connections that lost data end, and new ones work.
func TestForwardingRecoversFromNetworkOutage(t *testing.T) {
	ns, host := namespaceWithPeer(t)
	proxy, kubeconfig := slowKubeconfig(t, 50*time.Millisecond)
	d := up(t, "--kubeconfig", kubeconfig, "-n", ns)
	from := d.logLen()
	t.Run("slow", func(t *testing.T) {
		for range 5 {
			took, err := request(host, peer.Echo, "x", "x")
			if err != nil {
				t.Fatal(err)
			}
			if t.Logf("response after %v", took); took > 3*time.Second {
				t.Errorf("response after %v, want 3s at most", took)
			}
		}
	})
	t.Run("short outage", func(t *testing.T) { testOutage(t, proxy, host, 2*time.Second) })
	t.Run("long outage", func(t *testing.T) {
		apply(t, strings.Replace(service(ns, "peer", 80, ""), "name: peer, namespace", "name: before, namespace", 1))
		eventually(t, "the service resolves", resolves("before."+ns))
		testOutage(t, proxy, host, 12*time.Second, service(ns, "meanwhile", 80, ""))
		added := eventually(t, "a service added during the outage resolves", resolves("meanwhile."+ns))
		t.Logf("a service added during the outage resolved after %v", added)
	})
	d.checkBriefLog(t, from, "API server", 10)
}

// resolves returns a check that the name resolves.
func resolves(name string) func() error {
	return func() error {
		_, err := resolve(name)
		return err
	}
}

// testOutage interrupts the network while connections are in use, and applies
// the manifests meanwhile.
func testOutage(t *testing.T, proxy *netem.Proxy, host string, outage time.Duration, manifests ...string) {
	t.Helper()
	before := map[string]*net.TCPConn{
		"in use":  openConn(t, host, peer.Echo, ""),
		"waiting": openConn(t, host, peer.Late, "1h\n"),
	}
	if _, err := exchange(before["in use"], "x", "x"); err != nil {
		t.Fatal(err)
	}
	meanwhile := make(chan error, 1)
	proxy.Blackhole()
	go func() {
		_, err := request(host, peer.Echo, "x", "x")
		meanwhile <- err
	}()
	for _, conn := range before {
		if _, err := io.WriteString(conn, "x"); err != nil { // will be lost
			t.Error(err)
		}
	}
	if len(manifests) > 0 {
		apply(t, manifests...)
	}
	pause(t, outage)
	proxy.Resume()
	took := eventually(t, "a new connection works", func() error {
		_, err := request(host, peer.Echo, "x", "x")
		return err
	})
	if t.Logf("new connections worked %v after the outage", took); took > 5*time.Second {
		t.Errorf("new connections worked %v after the outage, want 5s at most", took)
	}
	t.Logf("connection from during the outage: %v", <-meanwhile)
	for name, conn := range before {
		if err := conn.SetDeadline(time.Now().Add(conditionTimeout)); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if _, err := exchange(conn, "", neverSent); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("connection %s: got %v, want it to end", name, err)
		}
		t.Logf("connection %s ended after %v", name, time.Since(begin))
	}
}

// slowKubeconfig returns a proxy to the API server, and a kubeconfig that uses
// it.
func slowKubeconfig(t *testing.T, roundTrip time.Duration) (proxy *netem.Proxy, kubeconfig string) {
	t.Helper()
	kubeconfig = copyKubeconfig(t)
	return proxyAPIServer(t, kubeconfig, roundTrip), kubeconfig
}

// proxyAPIServer starts a proxy to the API server of a kubeconfig with one
// cluster, and makes the kubeconfig use it.
func proxyAPIServer(t *testing.T, kubeconfig string, roundTrip time.Duration) *netem.Proxy {
	t.Helper()
	server, err := url.Parse(kubectl(t, "", "--kubeconfig", kubeconfig, "config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := server.Port()
	if port == "" {
		port = "443"
	}
	proxy := netem.New(net.JoinHostPort(server.Hostname(), port), roundTrip)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- proxy.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	setCluster(t, kubeconfig, "--server=https://"+l.Addr().String()+server.Path, "--tls-server-name="+server.Hostname())
	return proxy
}

// copyKubeconfig returns a file with a copy of the current context of the
// kubeconfig.
func copyKubeconfig(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(kubectl(t, "", "config", "view", "--raw", "--minify", "--flatten")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// setCluster changes the cluster of a kubeconfig from copyKubeconfig.
func setCluster(t *testing.T, kubeconfig string, settings ...string) {
	t.Helper()
	name := kubectl(t, "", "--kubeconfig", kubeconfig, "config", "view", "-o", "jsonpath={.clusters[0].name}")
	kubectl(t, "", append([]string{"--kubeconfig", kubeconfig, "config", "set-cluster", name}, settings...)...)
}

// limitedUser creates a ServiceAccount that has only the permissions of rules
// in its namespace. It returns a kubeconfig and the token.
func limitedUser(t *testing.T, ns string, rules ...string) (kubeconfig, token string) {
	t.Helper()
	apply(t, fmt.Sprintf("{apiVersion: v1, kind: ServiceAccount, metadata: {name: dev, namespace: %s}}", ns),
		roleOf(ns, rules...), fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: dev, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: dev}
subjects: [{kind: ServiceAccount, name: dev, namespace: %[1]s}]`, ns))
	token = strings.TrimSpace(kubectl(t, "", "-n", ns, "create", "token", "dev"))
	kubeconfig = copyKubeconfig(t)
	kubectl(t, "", "--kubeconfig", kubeconfig, "config", "set-credentials", "dev", "--token="+token)
	kubectl(t, "", "--kubeconfig", kubeconfig, "config", "set-context", "--current", "--user=dev")
	return kubeconfig, token
}

func roleOf(ns string, rules ...string) string {
	return fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: dev, namespace: %s}
rules: [%s]`, ns, strings.Join(rules, ", "))
}

const (
	mayReadServices  = `{apiGroups: [""], resources: [services], verbs: [list, watch]}`
	mayReadEndpoints = `{apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}`
	mayForward       = `{apiGroups: [""], resources: [pods/portforward], verbs: [get, create]}`
)

// Without permission to forward, clients are reset soon and the missing
// permission is logged once. When it is granted, connections work.
func TestMissingForwardPermissionIsLoggedOnce(t *testing.T) {
	ns, host := namespaceWithPeer(t)
	kubeconfig, _ := limitedUser(t, ns, mayReadServices, mayReadEndpoints)
	d := up(t, "--kubeconfig", kubeconfig, "-n", ns)
	slowest, err := concurrently(20, func(int) (time.Duration, error) {
		took, err := connectionEnd(host, peer.Echo, "x")
		if !errors.Is(err, syscall.ECONNRESET) {
			return 0, fmt.Errorf("got %w, want a reset", err)
		}
		return took, nil
	})
	if err != nil {
		t.Error(err)
	}
	if t.Logf("all clients reset after %v", slowest); slowest > 5*time.Second {
		t.Errorf("all clients reset after %v, want 5s at most", slowest)
	}
	if _, err := request(host, peer.Greet, "", "hello\n"); err == nil {
		t.Error("got a response on another port, want an error")
	}
	line := d.waitForLogOnce(t, 0, " ready; user system:serviceaccount:")
	if want := "may not create pods/portforward in namespace " + ns; !strings.Contains(line, want) {
		t.Errorf("got log line %q, want it to contain %q", line, want)
	}
	apply(t, roleOf(ns, mayReadServices, mayReadEndpoints, mayForward))
	took := eventually(t, "a connection works", func() error {
		_, err := request(host, peer.Echo, "x", "x")
		return err
	})
	t.Logf("connections worked %v after the permission was granted", took)
}
