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

// ownCluster returns the program that starts the test cluster, if that is
// what the tests run against.
func ownCluster() (program string, ours bool) {
	program, err := filepath.Abs("../../bin/cluster")
	if err != nil {
		return "", false
	}
	kubeconfig, err := exec.Command(program, "kubeconfig").Output()
	return program, err == nil && strings.TrimSpace(string(kubeconfig)) == os.Getenv("KUBECONFIG")
}

// The API server is killed and comes back.
func TestForwardingRecoversFromAPIServerRestart(t *testing.T) {
	cluster, ours := ownCluster()
	if !ours {
		t.Skip("this cluster isn't ours: its API server is not to be killed")
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
	var away, works, appears time.Duration
	attempts := underLoad("http://web."+ns, 50*time.Millisecond, func() {
		pause(t, time.Second)
		if out, err := exec.Command(cluster, "kill", "kube-apiserver").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		away = eventually(t, "the API server is back", apiReady)
		works = eventually(t, "a new connection works", func() error {
			_, err := get("http://web." + ns)
			return err
		})
		apply(t, strings.Replace(service(ns, "new", 80, ""), "app: new", "app: web", 1))
		appears = eventually(t, "a new service answers", func() error {
			_, err := get("http://new." + ns)
			return err
		})
		pause(t, time.Second)
	})
	t.Logf("the API server was away for %v; then connections worked after %v, and a new service appeared after %v; %s",
		away, works, appears, summarize(attempts))
	if works > 10*time.Second {
		t.Error("that is late")
	}
	after := attempts[len(attempts)-1].at - time.Second
	for _, a := range failed(attempts) {
		if a.at > after {
			t.Errorf("afterwards, too, one fails: %v", a.err)
		}
	}
	if err := established.SetDeadline(time.Now().Add(conditionTimeout)); err != nil {
		t.Fatal(err)
	}
	if _, err := exchange(established, "", "an end"); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection from before the restart gets %v, want its end", err)
	}
	d.checkBriefLog(t, from, "API server", 6)
	if d.ProcessState != nil {
		t.Error("kubeshore has ended")
	}
}

// apiReady says why the API server isn't ready.
func apiReady() error {
	out, err := exec.Command(kubectlProgram, "--request-timeout=2s", "get", "--raw", "/readyz").CombinedOutput()
	if err == nil && string(out) != "ok" {
		err = errors.New("not ok")
	}
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// checkBriefLog checks that the log has got a line with the text, and not many lines
// in all; those of services that come, change or go don't count.
func (d *daemon) checkBriefLog(t *testing.T, from int, text string, most int) {
	t.Helper()
	var lines []string
	has := false
	for _, line := range d.linesSince(from) {
		_, msg, _ := strings.Cut(line, `msg="`)
		if strings.HasPrefix(msg, "+ ") || strings.HasPrefix(msg, "~ ") || strings.HasPrefix(msg, "- ") {
			continue
		}
		lines = append(lines, line)
		has = has || strings.Contains(line, text)
	}
	if said := strings.Join(lines, "\n"); !has || len(lines) > most {
		t.Errorf("it says\n%s\nwant a line with %q, and %d at most", said, text, most)
	}
}

// The network between us and the API server is slow, and then silent for a
// while; no connection that lost something there is ever of use again.
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
			if t.Logf("an answer takes %v", took); took > 3*time.Second {
				t.Error("that is slow")
			}
		}
	})
	t.Run("for a moment", func(t *testing.T) { testOutage(t, proxy, host, 2*time.Second) })
	t.Run("for longer", func(t *testing.T) {
		apply(t, strings.Replace(service(ns, "peer", 80, ""), "name: peer, namespace", "name: before, namespace", 1))
		eventually(t, "a service appears", resolves("before."+ns))
		testOutage(t, proxy, host, 12*time.Second, service(ns, "meanwhile", 80, ""))
		appears := eventually(t, "a service that came meanwhile appears", resolves("meanwhile."+ns))
		t.Logf("a service that came meanwhile appeared %v later", appears)
	})
	d.checkBriefLog(t, from, "API server", 10)
}

func resolves(name string) func() error {
	return func() error {
		_, err := resolve(name)
		return err
	}
}

// testOutage lets the network be silent while the manifests are applied and
// connections are in use.
func testOutage(t *testing.T, proxy *netem.Proxy, host string, silence time.Duration, manifests ...string) {
	t.Helper()
	before := map[string]*net.TCPConn{
		"in use":                openConn(t, host, peer.Echo, ""),
		"waiting for an answer": openConn(t, host, peer.Late, "1h\n"),
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
		if _, err := io.WriteString(conn, "x"); err != nil { // it will be lost
			t.Error(err)
		}
	}
	if len(manifests) > 0 {
		apply(t, manifests...)
	}
	pause(t, silence)
	proxy.Resume()
	works := eventually(t, "a new connection has its answer", func() error {
		_, err := request(host, peer.Echo, "x", "x")
		return err
	})
	if t.Logf("new connections worked %v after the network was back", works); works > 5*time.Second {
		t.Error("that is late")
	}
	t.Logf("one that was made in the silence ended with %v", <-meanwhile)
	for doing, conn := range before {
		if err := conn.SetDeadline(time.Now().Add(conditionTimeout)); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if _, err := exchange(conn, "", "an end"); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("one that was %s doesn't end: %v", doing, err)
		}
		t.Logf("one that was %s ended %v later", doing, time.Since(begin))
	}
}

// slowKubeconfig returns a proxy to the API server, and a kubeconfig that leads there.
func slowKubeconfig(t *testing.T, roundTrip time.Duration) (proxy *netem.Proxy, kubeconfig string) {
	t.Helper()
	kubeconfig = copyKubeconfig(t)
	return proxyAPIServer(t, kubeconfig, roundTrip), kubeconfig
}

// proxyAPIServer returns a proxy to the API server of a kubeconfig with one
// cluster, which then leads there.
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

// copyKubeconfig returns a file with the current context of the kubeconfig.
func copyKubeconfig(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(kubectl(t, "", "config", "view", "--raw", "--minify", "--flatten")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// setCluster changes the cluster of such a copy.
func setCluster(t *testing.T, kubeconfig string, settings ...string) {
	t.Helper()
	cluster := kubectl(t, "", "--kubeconfig", kubeconfig, "config", "view", "-o", "jsonpath={.clusters[0].name}")
	kubectl(t, "", append([]string{"--kubeconfig", kubeconfig, "config", "set-cluster", cluster}, settings...)...)
}

// limitedUser returns a ServiceAccount's kubeconfig and its token; it may do in
// its namespace what the rules say.
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

// A user who may not forward is told once what is missing; once it isn't, all
// is well.
func TestMissingForwardPermissionIsLoggedOnce(t *testing.T) {
	ns, host := namespaceWithPeer(t)
	kubeconfig, _ := limitedUser(t, ns, mayReadServices, mayReadEndpoints)
	d := up(t, "--kubeconfig", kubeconfig, "-n", ns)
	from := d.logLen()
	slowest, err := concurrently(20, func(int) (time.Duration, error) {
		took, err := connectionEnd(host, peer.Echo, "x")
		if !errors.Is(err, syscall.ECONNRESET) {
			return 0, fmt.Errorf("the client gets %w, want a reset", err)
		}
		return took, nil
	})
	if err != nil {
		t.Error(err)
	}
	if t.Logf("they were reset after %v at most", slowest); slowest > 5*time.Second {
		t.Error("that is late")
	}
	if _, err := request(host, peer.Greet, "", "hello\n"); err == nil {
		t.Error("the other ports have an answer")
	}
	said := d.waitForLogOnce(t, from, "pods/portforward")
	if !strings.Contains(said, "create") {
		t.Errorf("it says %q, which has no verb", said)
	}
	apply(t, roleOf(ns, mayReadServices, mayReadEndpoints, mayForward))
	took := eventually(t, "a connection has its answer", func() error {
		_, err := request(host, peer.Echo, "x", "x")
		return err
	})
	t.Logf("connections worked %v after the right was granted", took)
}
