//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kubeshore/kubeshore/test/netem"
)

// Two clusters have a Service of the same name. The second one is unreachable
// at the start, becomes reachable, and is interrupted again. The first one
// isn't affected.
func TestTwoContextsFailIndependently(t *testing.T) {
	ns := namespaceWithWeb(t)
	const alias = ".me-far-away-443"
	near := strings.TrimSpace(kubectl(t, "", "config", "current-context"))
	far := startSecondCluster(t, ns)
	proxy := far.join(t, "me@far/away:443")

	proxy.Blackhole()
	d := launch(t, "-n", ns, "-x", near+",me@far/away:443")
	d.waitForStart(t)
	checkNow(t, answeredBy("http://web."+ns, "web-"), unresolvable("web."+ns+alias))
	proxy.Resume()
	proxy.ResetAll()
	eventually(t, "the second cluster answers", answeredBy("http://web."+ns+alias, far.pod))
	eventually(t, "the second cluster answers under its longer name", answeredBy("http://web."+ns+".svc"+alias, far.pod))
	checkNow(t, answeredBy("http://web", "web-"), answeredBy("http://web."+ns, "web-"))
	d.waitForLog(t, "+ web."+ns+alias)
	nearAddress, nearErr := resolve("web." + ns)
	farAddress, farErr := resolve("web." + ns + alias)
	if nearAddress == farAddress || nearErr != nil || farErr != nil {
		t.Errorf("got addresses %s and %s, %v, %v; want two different ones", nearAddress, farAddress, nearErr, farErr)
	}
	if far.separate {
		far.apply(t, far.service("alone"))
		eventually(t, "a service of the second cluster only answers", answeredBy("http://alone."+ns+alias, far.pod))
		apply(t, strings.Replace(service(ns, "here", 80, ""), "app: here", "app: web", 1))
		eventually(t, "a service of the first cluster only answers", answeredBy("http://here."+ns, "web-"))
		checkNow(t, unresolvable("alone"), unresolvable("alone."+ns), unresolvable("here."+ns+alias))
	}

	from := d.logLen()
	proxy.Blackhole()
	proxy.ResetAll()
	eventually(t, "the log reports that the second cluster is unreachable", func() error {
		for _, line := range d.linesSince(from) {
			if strings.Contains(line, "context me@far/away:443: cannot reach API server") {
				return nil
			}
		}
		return fmt.Errorf("got log\n%s", strings.Join(d.linesSince(from), "\n"))
	})
	checkNow(t, answeredBy("http://web."+ns, "web-"))
	proxy.Resume()
	proxy.ResetAll()
	took := eventually(t, "the second cluster answers again", func() error {
		if !strings.Contains(strings.Join(d.linesSince(from), "\n"), "context me@far/away:443 recovered") {
			return fmt.Errorf("got log\n%s", strings.Join(d.linesSince(from), "\n"))
		}
		return answeredBy("http://web."+ns+alias, far.pod)()
	})
	t.Logf("the second cluster answered after %v", took)
}

// checkNow calls checks once and reports their errors.
func checkNow(t *testing.T, checks ...func() error) {
	t.Helper()
	for _, check := range checks {
		if err := check(); err != nil {
			t.Error(err)
		}
	}
}

// answeredBy returns a check that the URL is answered by a pod whose name has
// the prefix.
func answeredBy(url, podPrefix string) func() error {
	return func() error {
		r, err := get(url)
		if err == nil && !strings.HasPrefix(r.Pod, podPrefix) {
			err = fmt.Errorf("%s: got a response from %s, want %s", url, r.Pod, podPrefix)
		}
		return err
	}
}

// otherCluster is a second cluster with a Service web in the namespace.
type otherCluster struct {
	kubeconfig, namespace string
	pod                   string // prefix of its pod's name
	separate              bool   // not the first cluster under another name
}

// startSecondCluster starts a second API server next to the test cluster, with
// a Service web in the same namespace and another pod behind it. It has its
// own credentials and objects. The pod runs in the first cluster, whose
// kubelet both API servers use. If the tests use another cluster,
// startSecondCluster returns that one under another name.
func startSecondCluster(t *testing.T, ns string) otherCluster {
	t.Helper()
	clusterProgram, own := ownCluster()
	if !own {
		t.Log("not the test cluster, so its API server is used for both contexts")
		return otherCluster{kubeconfig: copyKubeconfig(t), namespace: ns, pod: "web-"}
	}
	far := otherCluster{kubeconfig: filepath.Join(t.TempDir(), "second"), namespace: ns, pod: "far", separate: true}
	if err := os.WriteFile(far.kubeconfig, startSecondAPIServer(t, clusterProgram), 0o600); err != nil {
		t.Fatal(err)
	}
	pod := fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: far, namespace: %s, labels: {app: far}}, spec: %s}", ns, podSpec(8080))
	apply(t, pod)
	kubectl(t, "", "-n", ns, "wait", "--for=condition=Ready", "--timeout=60s", "pod/far")

	node := kubectl(t, "", "-n", ns, "get", "pod", "far", "-o", "jsonpath={.spec.nodeName}")
	status := kubectl(t, "", "get", "node", node, "-o", "jsonpath={.status}")
	far.apply(t, fmt.Sprintf("{apiVersion: v1, kind: Node, metadata: {name: %s}}", node),
		fmt.Sprintf("{apiVersion: v1, kind: Namespace, metadata: {name: %s}}", ns))
	kubectl(t, "", "--kubeconfig", far.kubeconfig, "patch", "node", node, "--subresource=status", "--patch", `{"status": `+status+`}`)
	far.apply(t, strings.Replace(pod, "spec: {", "spec: {nodeName: "+node+", ", 1), far.service("web"))
	return far
}

// startSecondAPIServer runs the second API server until the test ends, and
// returns its kubeconfig.
func startSecondAPIServer(t *testing.T, clusterProgram string) []byte {
	t.Helper()
	cmd := exec.Command(clusterProgram, "second") // exits when its stdin is closed, so also with this process
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("second API server: %v: %s", err, stderr.String())
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("second API server: %v", err)
	}
	kubeconfig, err := os.ReadFile(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return kubeconfig
}

func (c otherCluster) apply(t *testing.T, manifests ...string) {
	t.Helper()
	kubectl(t, strings.Join(manifests, "\n---\n"), "--kubeconfig", c.kubeconfig, "apply", "-f", "-")
}

// service returns a Service and its EndpointSlice with the pod, because the
// second cluster has no controllers.
func (c otherCluster) service(name string) string {
	return service(c.namespace, name, 80, "") + fmt.Sprintf(`
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[2]s, namespace: %[1]s, labels: {kubernetes.io/service-name: %[2]s}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [192.0.2.1], conditions: {ready: true}, targetRef: {kind: Pod, name: %[3]s, namespace: %[1]s}}]`, c.namespace, name, c.pod)
}

// join puts a proxy in front of the cluster, and adds the cluster to
// KUBECONFIG as a context of the given name.
func (c otherCluster) join(t *testing.T, contextName string) *netem.Proxy {
	t.Helper()
	proxy := proxyAPIServer(t, c.kubeconfig, 0)
	data, err := os.ReadFile(c.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	user := kubectl(t, "", "config", "view", "--minify", "-o", "jsonpath={.users[0].name}")
	for _, list := range []string{"contexts", "clusters", "users"} { // names must be unique in the merged kubeconfig
		name := kubectl(t, "", "--kubeconfig", c.kubeconfig, "config", "view", "-o", "jsonpath={."+list+"[0].name}")
		data = bytes.ReplaceAll(data, []byte(": "+name+"\n"), []byte(": "+contextName+"\n"))
	}
	if err := os.WriteFile(c.kubeconfig, data, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", os.Getenv("KUBECONFIG")+string(filepath.ListSeparator)+c.kubeconfig)
	kubectl(t, "", "--context", contextName, "get", "services")
	out, _ := exec.Command(kubectlProgram, "--context", contextName, "--user", user, "get", "services").CombinedOutput()
	if c.separate && !strings.Contains(string(out), "Unauthorized") {
		t.Errorf("second cluster with credentials of the first: got %s, want Unauthorized", out)
	}
	return proxy
}
