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

// Two clusters with a Service of the same name; one is away at the start,
// comes, and goes again.
func TestTwoContextsFailIndependently(t *testing.T) {
	ns := namespaceWithWeb(t)
	const alias = ".me-far-away-443"
	near := strings.TrimSpace(kubectl(t, "", "config", "current-context"))
	far := startSecondCluster(t, ns)
	proxy := far.join(t, "me@far/away:443")

	proxy.Blackhole()
	d := launch(t, "-n", ns, "-x", near+",me@far/away:443")
	d.waitForLog(t, "msg=ready")
	checkNow(t, answeredBy("http://web."+ns, "web-"), unresolvable("web."+ns+alias))
	proxy.Resume()
	proxy.ResetAll()
	eventually(t, "the further cluster answers", answeredBy("http://web."+ns+alias, far.pod))
	eventually(t, "by its longer name too", answeredBy("http://web."+ns+".svc"+alias, far.pod))
	checkNow(t, answeredBy("http://web", "web-"), answeredBy("http://web."+ns, "web-"))
	d.waitForLog(t, "+ web."+ns+alias)
	one, err1 := resolve("web." + ns)
	other, err2 := resolve("web." + ns + alias)
	if one == other || err1 != nil || err2 != nil {
		t.Errorf("they are at %s and %s, %v, %v", one, other, err1, err2)
	}
	if far.separate {
		far.apply(t, far.service("alone"))
		eventually(t, "a service of the further cluster alone answers", answeredBy("http://alone."+ns+alias, far.pod))
		apply(t, strings.Replace(service(ns, "here", 80, ""), "app: here", "app: web", 1))
		eventually(t, "and one of the first alone", answeredBy("http://here."+ns, "web-"))
		checkNow(t, unresolvable("alone"), unresolvable("alone."+ns), unresolvable("here."+ns+alias))
	}

	from := d.logLen()
	proxy.Blackhole()
	proxy.ResetAll()
	eventually(t, "it says that the further cluster is away", func() error {
		for _, line := range d.linesSince(from) {
			if strings.Contains(line, "context me@far/away:443: the API server") && strings.Contains(line, "can't be reached") {
				return nil
			}
		}
		return fmt.Errorf("it says\n%s", strings.Join(d.linesSince(from), "\n"))
	})
	checkNow(t, answeredBy("http://web."+ns, "web-"))
	proxy.Resume()
	proxy.ResetAll()
	took := eventually(t, "the further cluster answers again", func() error {
		if !strings.Contains(strings.Join(d.linesSince(from), "\n"), "no longer so: context me@far/away:443") {
			return fmt.Errorf("it says\n%s", strings.Join(d.linesSince(from), "\n"))
		}
		return answeredBy("http://web."+ns+alias, far.pod)()
	})
	t.Logf("it was back after %v", took)
}

// checkNow checks what is to be so now.
func checkNow(t *testing.T, questions ...func() error) {
	t.Helper()
	for _, ask := range questions {
		if err := ask(); err != nil {
			t.Error(err)
		}
	}
}

// answeredBy tells whether a URL is answered by a pod whose name begins so.
func answeredBy(url, pod string) func() error {
	return func() error {
		a, err := get(url)
		if err == nil && !strings.HasPrefix(a.Pod, pod) {
			err = fmt.Errorf("%s is answered by %s, want %s", url, a.Pod, pod)
		}
		return err
	}
}

// otherCluster is a further one, which has a Service web in the namespace.
type otherCluster struct {
	kubeconfig, namespace string
	pod                   string // what the name of its pod begins with
	separate              bool   // it isn't the first one by another way
}

// startSecondCluster starts a second API server beside our own cluster's, with a
// Service web of the same namespace and another pod behind it. It has
// credentials and objects of its own; the pod is one of the first cluster,
// whose kubelet it knows as its own. Of a cluster that isn't ours it returns
// another way to the same.
func startSecondCluster(t *testing.T, ns string) otherCluster {
	t.Helper()
	program, ours := ownCluster()
	if !ours {
		t.Log("this cluster isn't ours: its one API server stands for both")
		return otherCluster{kubeconfig: copyKubeconfig(t), namespace: ns, pod: "web-"}
	}
	far := otherCluster{kubeconfig: filepath.Join(t.TempDir(), "second"), namespace: ns, pod: "far", separate: true}
	if err := os.WriteFile(far.kubeconfig, startSecondAPIServer(t, program), 0o600); err != nil {
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

// startSecondAPIServer runs the second API server until the test ends, and returns its
// kubeconfig.
func startSecondAPIServer(t *testing.T, program string) []byte {
	t.Helper()
	cmd := exec.Command(program, "second") // it ends with its stdin, so with this process too
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
			t.Errorf("the further API server: %v: %s", err, stderr.String())
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the further API server: %v", err)
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

// service returns a Service and, as there are no controllers, its
// EndpointSlice with the pod.
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

// join adds the cluster to the kubeconfigs, as the context given, behind a
// proxy.
func (c otherCluster) join(t *testing.T, context string) *netem.Proxy {
	t.Helper()
	proxy := proxyAPIServer(t, c.kubeconfig, 0)
	data, err := os.ReadFile(c.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	user := kubectl(t, "", "config", "view", "--minify", "-o", "jsonpath={.users[0].name}")
	for _, what := range []string{"contexts", "clusters", "users"} { // in one kubeconfig they need names of their own
		name := kubectl(t, "", "--kubeconfig", c.kubeconfig, "config", "view", "-o", "jsonpath={."+what+"[0].name}")
		data = bytes.ReplaceAll(data, []byte(": "+name+"\n"), []byte(": "+context+"\n"))
	}
	if err := os.WriteFile(c.kubeconfig, data, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", os.Getenv("KUBECONFIG")+string(filepath.ListSeparator)+c.kubeconfig)
	kubectl(t, "", "--context", context, "get", "services")
	out, _ := exec.Command(kubectlProgram, "--context", context, "--user", user, "get", "services").CombinedOutput()
	if c.separate && !strings.Contains(string(out), "Unauthorized") {
		t.Errorf("asked with the first one's credentials, the further cluster says %s", out)
	}
	return proxy
}
