//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// answered tells whether a URL is answered.
func answered(url string) func() error {
	return func() error {
		_, err := get(url)
		return err
	}
}

// unresolvable tells whether a name leads nowhere.
func unresolvable(name string) func() error {
	return func() error {
		if address, err := resolve(name); err == nil {
			return fmt.Errorf("%s is %s", name, address)
		}
		return nil
	}
}

// What a user may do decides how it is read; what can be served is served.
func TestLimitedPermissionsSuffice(t *testing.T) {
	const (
		mayListServices = `{apiGroups: [""], resources: [services], verbs: [list]}`
		mayListSlices   = `{apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list]}`
		mayGetWeb       = `{apiGroups: [""], resources: [services], resourceNames: [web], verbs: [get]}`
		mayReadPods     = `{apiGroups: [""], resources: [pods], verbs: [list, watch]}`
	)
	for name, c := range map[string]struct {
		rules []string
		args  string
		says  []string
	}{
		"no EndpointSlices": {
			rules: []string{mayReadServices, mayReadPods},
			says:  []string{"may not list endpointslices in namespace NS of context CTX; reading pods instead"},
		},
		"no watch": {
			rules: []string{mayListServices, mayListSlices},
			says: []string{
				"may not watch services in namespace NS of context CTX; listing them every 10s",
				"may not watch endpointslices in namespace NS of context CTX; listing them every 10s",
			},
		},
		"one service alone": {
			rules: []string{mayGetWeb, mayReadEndpoints}, args: "--include web.NS",
			says: []string{"may not list services in namespace NS of context CTX; asking for 1 by name every 10s"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			ns := newNamespace(t)
			apply(t, deployment(ns, "web", 1), service(ns, "web", 80, ""))
			kubeconfig, _ := limitedUser(t, ns, append(c.rules, mayForward)...)
			context := strings.TrimSpace(kubectl(t, "", "--kubeconfig", kubeconfig, "config", "current-context"))
			in := strings.NewReplacer("NS", ns, "CTX", context)
			args := strings.Fields("--kubeconfig " + kubeconfig + " -n " + ns + " " + in.Replace(c.args))
			d := up(t, args...)
			for _, text := range c.says {
				d.waitForLogOnce(t, 0, in.Replace(text))
			}
			eventually(t, "the service answers", answered("http://web."+ns))
			kubectl(t, "", "-n", ns, "scale", "deployment", "web", "--replicas=2")
			eventually(t, "a change is followed", func() error {
				if text := "~ web." + ns; !strings.Contains(d.log.String(), text) || !strings.Contains(d.log.String(), "2/2 ready") {
					return fmt.Errorf("the log says\n%s", d.log.String())
				}
				return nil
			})
		})
	}
}

// A right that is missing at first is used once it is granted.
func TestPermissionGrantedLaterIsUsed(t *testing.T) {
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""))
	const mayReadPods = `{apiGroups: [""], resources: [pods], verbs: [list, watch]}`
	kubeconfig, _ := limitedUser(t, ns, mayReadServices, mayReadPods, mayForward)
	d := up(t, "--kubeconfig", kubeconfig, "-n", ns)
	d.waitForLog(t, "reading pods instead")
	apply(t, roleOf(ns, mayReadServices, mayReadEndpoints, mayForward))
	d.waitForLog(t, "no longer so: may not list endpointslices in namespace "+ns)
}

// All namespaces, as they come and go.
func TestAllNamespacesAreFollowed(t *testing.T) {
	first := newNamespace(t)
	apply(t, service(first, "web", 80, ""))
	d := up(t, "-A", "--include", "web")
	d.waitForLog(t, "all namespaces")
	d.waitForLog(t, "+ web."+first)
	second := newNamespace(t)
	apply(t, deployment(second, "web", 1), service(second, "web", 80, ""))
	eventually(t, "a new namespace's service answers", answered("http://web."+second))
	kubectl(t, "", "delete", "namespace", second)
	eventually(t, "its name is gone", unresolvable("web."+second))
	if err := unresolvable("web")(); err != nil {
		t.Errorf("only the context's own namespace has bare names: %v", err)
	}
}

// Whatever a Service is made into is followed.
func TestServiceChangesAreFollowed(t *testing.T) {
	ns := newNamespace(t)
	apply(t, deployment(ns, "web", 1), deployment(ns, "other", 1), service(ns, "web", 80, ""), service(ns, "other", 80, ""))
	waitForReadyPods(t, ns, "web", 1)
	d := up(t, "-n", ns)
	pod := func(prefix string) func() error {
		return func() error {
			a, err := get("http://web." + ns)
			if err == nil && !strings.HasPrefix(a.Pod, prefix) {
				err = fmt.Errorf("%s answers", a.Pod)
			}
			return err
		}
	}
	eventually(t, "it answers", pod("web-"))
	patch := func(spec string) {
		kubectl(t, "", "-n", ns, "patch", "service", "web", "--patch", `{"spec": `+spec+`}`)
	}
	patch(`{"selector": {"app": "other"}}`)
	eventually(t, "its selector's new pods answer", pod("other-"))
	patch(`{"ports": [{"name": "http", "port": 80, "targetPort": "nosuch"}]}`)
	d.waitForLog(t, "port 80: no container of its pods has a port with the name nosuch, which is its targetPort")
	patch(`{"ports": [{"name": "http", "port": 80, "targetPort": 8080}]}`)
	eventually(t, "its new target port answers", pod("other-"))

	kubectl(t, "", "-n", ns, "delete", "service", "web")
	apply(t, service(ns, "web", 80, "None"))
	eventually(t, "headless, it answers on the target port", answered("http://web."+ns+":8080"))
	kubectl(t, "", "-n", ns, "delete", "service", "web")
	apply(t, service(ns, "web", 80, ""))
	eventually(t, "with an address again, it doesn't", func() error { return refused("http://web." + ns + ":8080") })
	eventually(t, "and answers on its own port", pod("web-"))

	kubectl(t, "", "-n", ns, "delete", "service", "web")
	apply(t, fmt.Sprintf(`{apiVersion: v1, kind: Service, metadata: {name: web, namespace: %[1]s}, spec: {type: ExternalName, externalName: other.%[1]s.svc.cluster.local}}`, ns))
	eventually(t, "as an ExternalName it is another name of a service", pod("other-"))
	d.waitForLog(t, "another name of other."+ns)
	kubectl(t, "", "-n", ns, "patch", "service", "web", "--patch", `{"spec": {"externalName": "example.com"}}`)
	eventually(t, "which goes when it stands for something else", unresolvable("web."+ns))
}

// A cluster that gets another address is followed there; which context is the
// current one is what it was at the start.
func TestKubeconfigChangesAreFollowed(t *testing.T) {
	ns := namespaceWithWeb(t)
	_, kubeconfig := slowKubeconfig(t, 0)
	_, elsewhere := slowKubeconfig(t, 0)
	server := strings.TrimSpace(kubectl(t, "", "--kubeconfig", elsewhere, "config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"))
	setCluster(t, kubeconfig, "--server=https://127.0.0.1:1")
	good := copyOf(t, kubeconfig)
	setCluster(t, good, "--server="+server)
	expectFailure(t, "can't be reached", "up", "--kubeconfig", kubeconfig, "-n", ns)

	replace(t, kubeconfig, good)
	d := up(t, "--kubeconfig", kubeconfig, "-n", ns)
	eventually(t, "it answers", answered("http://web."+ns))
	setCluster(t, kubeconfig, "--server=https://127.0.0.1:1")
	d.waitForLog(t, "the API server https://127.0.0.1:1 can't be reached")
	kubectl(t, "", "--kubeconfig", kubeconfig, "config", "set-context", "other", "--cluster=none", "--user=none")
	kubectl(t, "", "--kubeconfig", kubeconfig, "config", "use-context", "other")
	setCurrent := strings.TrimSpace(kubectl(t, "", "--kubeconfig", good, "config", "view", "-o", "jsonpath={.contexts[0].context.cluster}"))
	kubectl(t, "", "--kubeconfig", kubeconfig, "config", "set-cluster", setCurrent, "--server="+server)
	took := eventually(t, "it is followed to its new address", func() error {
		if !strings.Contains(d.log.String(), "no longer so: ") {
			return fmt.Errorf("it says\n%s", d.log.String())
		}
		return answered("http://web." + ns)()
	})
	t.Logf("that took %v", took)
	apply(t, service(ns, "other", 80, ""))
	d.waitForLog(t, "+ other."+ns)
}

func copyOf(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

// replace puts a copy of a file in another's place, as programs do that write
// carefully.
func replace(t *testing.T, path, by string) {
	t.Helper()
	next := path + ".next"
	data, err := os.ReadFile(by)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(next, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

// What the project's file says, and what it says later.
func TestProjectFileChangesAreFollowed(t *testing.T) {
	first, second := newNamespace(t), newNamespace(t)
	apply(t, deployment(first, "web", 1), service(first, "web", 80, ""), service(first, "mine", 80, ""), service(second, "db", 80, ""))
	path := filepath.Join(t.TempDir(), "kubeshore.yaml")
	write := func(text string) {
		t.Helper()
		next := filepath.Join(t.TempDir(), "next")
		if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace(t, path, next)
	}
	base := fmt.Sprintf(`
namespaces: [%s]
services:
  web.%[1]s:
    address: 127.64.13.37
    ports: {80: 8088}
    names: [shop.example.test]
  mine.%[1]s: {local: true}
`, first)
	write(base)
	d := up(t, "--config", path)
	eventually(t, "it answers by another name and port", answered("http://shop.example.test:8088"))
	for name, want := range map[string]string{"web." + first: "127.64.13.37", "mine": "127.0.0.1"} {
		if address, err := resolve(name); address != want {
			t.Errorf("%s is %s, %v, want %s", name, address, err, want)
		}
	}
	from := d.logLen()
	write(base + "nmaespaces: []\n")
	said := d.waitForLogOnce(t, from, "unknown field nmaespaces")
	if !strings.Contains(said, path+":9") {
		t.Errorf("it says %q, want the line", said)
	}
	if _, err := get("http://shop.example.test:8088"); err != nil {
		t.Errorf("what it said before doesn't stand: %v", err)
	}
	write(strings.Replace(base, "["+first, "["+first+", "+second, 1))
	eventually(t, "a namespace that comes later is forwarded", func() error {
		_, err := resolve("db." + second)
		return err
	})
	write(strings.Replace(base, "127.64.13.37", "127.64.13.38", 1))
	eventually(t, "one that goes isn't any more", unresolvable("db."+second))
	eventually(t, "it has its new address", func() error {
		if address, _ := resolve("shop.example.test"); address != "127.64.13.38" {
			return fmt.Errorf("it is %q", address)
		}
		return nil
	})
	eventually(t, "and answers there", answered("http://shop.example.test:8088"))
}

// A host of an Ingress leads to its controller.
func TestIngressHostResolvesToController(t *testing.T) {
	ns, controllers := newNamespace(t), newNamespace(t)
	const status = `{"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}`
	ingress := fmt.Sprintf(`
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: %s}
spec: {rules: [{host: local.example.test, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}`, ns)
	apply(t, deployment(controllers, "nginx", 1), service(controllers, "db", 5432, ""),
		strings.Replace(service(controllers, "nginx", 80, ""), "spec: {", "spec: {type: LoadBalancer, ", 1), ingress)
	d := up(t, "-n", ns+","+controllers, "--ingress")
	d.waitForLog(t, "host local.example.test: its status leads to no service that can be read")
	for namespace, object := range map[string]string{controllers: "service/nginx", ns: "ingress/web"} {
		kubectl(t, "", "-n", namespace, "patch", object, "--subresource=status", "--patch", status)
	}
	eventually(t, "the host answers", answered("http://local.example.test"))
	kubectl(t, "", "-n", ns, "delete", "ingress", "web")
	eventually(t, "its name is gone", unresolvable("local.example.test"))
	d.stop(t, os.Interrupt)

	apply(t, ingress)
	kubectl(t, "", "-n", ns, "patch", "ingress/web", "--subresource=status", "--patch", status)
	up(t, "-n", ns, "--ingress", "--include", "none")
	eventually(t, "it answers where its controller's namespace isn't named too", answered("http://local.example.test"))
	if err := unresolvable("db." + controllers)(); err != nil {
		t.Errorf("the rest of that namespace isn't forwarded: %v", err)
	}
}

// Addresses are the same on the next run.
func TestAddressesPersistAcrossRuns(t *testing.T) {
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""), service(ns, "db", 5432, ""))
	addresses := func() (found []string) {
		t.Helper()
		for _, name := range []string{"web." + ns, "db." + ns} {
			address, err := resolve(name)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, address)
		}
		return found
	}
	run := func(args ...string) []string {
		d := up(t, append([]string{"-n", ns}, args...)...)
		defer d.stop(t, os.Interrupt)
		return addresses()
	}
	first := run()
	if again := run(); fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("the addresses were %q and are %q", first, again)
	}
	for _, address := range run("--cidr", "127.200.0.0/16") {
		if !strings.HasPrefix(address, "127.200.") {
			t.Errorf("%s is not in the range", address)
		}
	}
}
