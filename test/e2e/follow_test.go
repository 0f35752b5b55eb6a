//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// answered returns a check that the URL is answered.
func answered(url string) func() error {
	return func() error {
		_, err := get(url)
		return err
	}
}

// unresolvable returns a check that the name doesn't resolve.
func unresolvable(name string) func() error {
	return func() error {
		if address, err := resolve(name); err == nil {
			return fmt.Errorf("%s resolves to %s, want no address", name, address)
		}
		return nil
	}
}

// Services are forwarded as far as the user's permissions allow, and missing
// permissions are logged.
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
		logs  []string
	}{
		"no EndpointSlices": {
			rules: []string{mayReadServices, mayReadPods},
			logs:  []string{"not allowed to list endpointslices in namespace NS (context CTX); reading pods instead"},
		},
		"no watch": {
			rules: []string{mayListServices, mayListSlices},
			logs: []string{
				"not allowed to watch services in namespace NS (context CTX); listing them every 10s",
				"not allowed to watch endpointslices in namespace NS (context CTX); listing them every 10s",
			},
		},
		"a single service": {
			rules: []string{mayGetWeb, mayReadEndpoints}, args: "--include web.NS",
			logs: []string{"not allowed to list services in namespace NS (context CTX); getting 1 by name every 10s"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			ns := newNamespace(t)
			apply(t, deployment(ns, "web", 1), service(ns, "web", 80, ""))
			kubeconfig, _ := limitedUser(t, ns, append(c.rules, mayForward)...)
			contextName := strings.TrimSpace(kubectl(t, "", "--kubeconfig", kubeconfig, "config", "current-context"))
			replacer := strings.NewReplacer("NS", ns, "CTX", contextName)
			args := strings.Fields("--kubeconfig " + kubeconfig + " -n " + ns + " " + replacer.Replace(c.args))
			d := up(t, args...)
			for _, text := range c.logs {
				d.waitForLogOnce(t, 0, replacer.Replace(text))
			}
			eventually(t, "the service answers", answered("http://web."+ns))
			kubectl(t, "", "-n", ns, "scale", "deployment", "web", "--replicas=2")
			eventually(t, "the log reports the change", func() error {
				if text := "~ web." + ns; !strings.Contains(d.log.String(), text) || !strings.Contains(d.log.String(), "2/2 ready") {
					return fmt.Errorf("got log\n%s", d.log.String())
				}
				return nil
			})
		})
	}
}

func TestPermissionGrantedLaterIsUsed(t *testing.T) {
	ns := newNamespace(t)
	apply(t, service(ns, "web", 80, ""))
	const mayReadPods = `{apiGroups: [""], resources: [pods], verbs: [list, watch]}`
	kubeconfig, _ := limitedUser(t, ns, mayReadServices, mayReadPods, mayForward)
	d := up(t, "--kubeconfig", kubeconfig, "-n", ns)
	d.waitForLog(t, "reading pods instead")
	apply(t, roleOf(ns, mayReadServices, mayReadEndpoints, mayForward))
	d.waitForLog(t, "a replacement for a missing permission is no longer in use")
}

func TestAllNamespacesAreFollowed(t *testing.T) {
	first := newNamespace(t)
	apply(t, service(first, "web", 80, ""))
	d := up(t, "-A", "--include", "web")
	d.waitForLog(t, "all namespaces")
	d.waitForLog(t, "+ web."+first)
	second := newNamespace(t)
	apply(t, deployment(second, "web", 1), service(second, "web", 80, ""))
	eventually(t, "a service in a new namespace answers", answered("http://web."+second))
	kubectl(t, "", "delete", "namespace", second)
	eventually(t, "the service of the deleted namespace doesn't resolve", unresolvable("web."+second))
	if err := unresolvable("web")(); err != nil {
		t.Errorf("short name outside the namespace of the context: %v", err)
	}
}

// A Service is changed, recreated as headless, and turned into an
// ExternalName.
func TestServiceChangesAreFollowed(t *testing.T) {
	ns := newNamespace(t)
	apply(t, deployment(ns, "web", 1), deployment(ns, "other", 1), service(ns, "web", 80, ""), service(ns, "other", 80, ""))
	waitForReadyPods(t, ns, "web", 1)
	d := up(t, "-n", ns)
	web := "http://web." + ns
	eventually(t, "the service answers", answeredBy(web, "web-"))
	patch := func(spec string) {
		kubectl(t, "", "-n", ns, "patch", "service", "web", "--patch", `{"spec": `+spec+`}`)
	}
	patch(`{"selector": {"app": "other"}}`)
	eventually(t, "the pods of the new selector answer", answeredBy(web, "other-"))
	patch(`{"ports": [{"name": "http", "port": 80, "targetPort": "nosuch"}]}`)
	d.waitForLog(t, `port 80: targetPort \"nosuch\" matches no container port`)
	patch(`{"ports": [{"name": "http", "port": 80, "targetPort": 8080}]}`)
	eventually(t, "the new target port answers", answeredBy(web, "other-"))

	kubectl(t, "", "-n", ns, "delete", "service", "web")
	apply(t, service(ns, "web", 80, "None"))
	eventually(t, "the headless service answers on the target port", answered("http://web."+ns+":8080"))
	kubectl(t, "", "-n", ns, "delete", "service", "web")
	apply(t, service(ns, "web", 80, ""))
	eventually(t, "the service with an address refuses the target port", func() error { return refused("http://web." + ns + ":8080") })
	eventually(t, "the service with an address answers on its port", answeredBy(web, "web-"))

	kubectl(t, "", "-n", ns, "delete", "service", "web")
	apply(t, fmt.Sprintf(`{apiVersion: v1, kind: Service, metadata: {name: web, namespace: %[1]s}, spec: {type: ExternalName, externalName: other.%[1]s.svc.cluster.local}}`, ns))
	eventually(t, "the ExternalName leads to the other service", answeredBy(web, "other-"))
	d.waitForLog(t, "alias of other."+ns)
	kubectl(t, "", "-n", ns, "patch", "service", "web", "--patch", `{"spec": {"externalName": "example.com"}}`)
	eventually(t, "the ExternalName outside the cluster doesn't resolve", unresolvable("web."+ns))
}

// A changed server address in the kubeconfig is used. A changed current
// context isn't.
func TestKubeconfigChangesAreFollowed(t *testing.T) {
	ns := namespaceWithWeb(t)
	_, kubeconfig := slowKubeconfig(t, 0)
	_, elsewhere := slowKubeconfig(t, 0)
	server := strings.TrimSpace(kubectl(t, "", "--kubeconfig", elsewhere, "config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"))
	setCluster(t, kubeconfig, "--server=https://127.0.0.1:1")
	good := copyOf(t, kubeconfig)
	setCluster(t, good, "--server="+server)
	expectFailure(t, "cannot reach API server https://127.0.0.1:1: ", "up", "--kubeconfig", kubeconfig, "-n", ns)

	replace(t, kubeconfig, good)
	d := up(t, "--kubeconfig", kubeconfig, "-n", ns)
	eventually(t, "the service answers", answered("http://web."+ns))
	setCluster(t, kubeconfig, "--server=https://127.0.0.1:1")
	d.waitForLog(t, "cannot reach API server https://127.0.0.1:1: ")
	kubectl(t, "", "--kubeconfig", kubeconfig, "config", "set-context", "other", "--cluster=none", "--user=none")
	kubectl(t, "", "--kubeconfig", kubeconfig, "config", "use-context", "other")
	clusterName := strings.TrimSpace(kubectl(t, "", "--kubeconfig", good, "config", "view", "-o", "jsonpath={.contexts[0].context.cluster}"))
	kubectl(t, "", "--kubeconfig", kubeconfig, "config", "set-cluster", clusterName, "--server="+server)
	took := eventually(t, "the new address is used", func() error {
		if !strings.Contains(d.log.String(), " recovered") {
			return fmt.Errorf("got log\n%s", d.log.String())
		}
		return answered("http://web." + ns)()
	})
	t.Logf("the new address was used after %v", took)
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

// replace atomically replaces a file with a copy of another one.
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

// Changes to the project file are applied while kubeshore is running.
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
	eventually(t, "the service answers under its additional name and port", answered("http://shop.example.test:8088"))
	for name, want := range map[string]string{"web." + first: "127.64.13.37", "mine": "127.0.0.1"} {
		if address, err := resolve(name); address != want {
			t.Errorf("%s: got address %s, %v; want %s", name, address, err, want)
		}
	}
	from := d.logLen()
	write(base + "nmaespaces: []\n")
	line := d.waitForLogOnce(t, from, "unknown field nmaespaces")
	if want := path + ":9"; !strings.Contains(line, want) {
		t.Errorf("got log line %q, want it to contain %q", line, want)
	}
	if _, err := get("http://shop.example.test:8088"); err != nil {
		t.Errorf("previous settings after an invalid change: %v", err)
	}
	write(strings.Replace(base, "["+first, "["+first+", "+second, 1))
	eventually(t, "the added namespace is forwarded", resolves("db."+second))
	write(strings.Replace(base, "127.64.13.37", "127.64.13.38", 1))
	eventually(t, "the removed namespace isn't forwarded", unresolvable("db."+second))
	eventually(t, "the service has its new address", func() error {
		if address, _ := resolve("shop.example.test"); address != "127.64.13.38" {
			return fmt.Errorf("got %q", address)
		}
		return nil
	})
	eventually(t, "the service answers at its new address", answered("http://shop.example.test:8088"))
}

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
	d := up(t, "-n", ns+","+controllers, "--ingress", "*.example.test")
	d.waitForLog(t, "host local.example.test: no readable service matches the ingress's load-balancer status")
	for objectNamespace, object := range map[string]string{controllers: "service/nginx", ns: "ingress/web"} {
		kubectl(t, "", "-n", objectNamespace, "patch", object, "--subresource=status", "--patch", status)
	}
	eventually(t, "the Ingress host answers", answered("http://local.example.test"))
	kubectl(t, "", "-n", ns, "delete", "ingress", "web")
	eventually(t, "the deleted Ingress host doesn't resolve", unresolvable("local.example.test"))
	d.stop(t, os.Interrupt)

	apply(t, ingress)
	kubectl(t, "", "-n", ns, "patch", "ingress/web", "--subresource=status", "--patch", status)
	up(t, "-n", ns, "--ingress", "*", "--include", "none")
	eventually(t, "the Ingress host answers without its controller's namespace on the command line", answered("http://local.example.test"))
	if err := unresolvable("db." + controllers)(); err != nil {
		t.Errorf("other service in the controller's namespace: %v", err)
	}
}

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
	runOnce := func(args ...string) []string {
		d := up(t, append([]string{"-n", ns}, args...)...)
		defer d.stop(t, os.Interrupt)
		return addresses()
	}
	first := runOnce()
	if again := runOnce(); fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("second run: got addresses %q, want %q", again, first)
	}
	for _, address := range runOnce("--cidr", "127.200.0.0/16") {
		if !strings.HasPrefix(address, "127.200.") {
			t.Errorf("got address %s, want one in 127.200.0.0/16", address)
		}
	}
}
