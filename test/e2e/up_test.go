//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// A Deployment with a Service in the first namespace, and a StatefulSet with a
// headless Service in the second one: all names resolve, and all pods get
// connections.
func TestNamesResolveToAllPods(t *testing.T) {
	shop, data := newNamespace(t), newNamespace(t)
	apply(t,
		deployment(shop, "web", 3), service(shop, "web", 80, ""),
		statefulSet(data, "db", 2), service(data, "db", 6543, "None"),
	)
	waitForReadyPods(t, shop, "web", 3)
	waitForReadyPods(t, data, "db", 2)
	up(t, "-n", shop+","+data)

	t.Run("all four names", func(t *testing.T) {
		for _, name := range []string{"web", "web." + shop, "web." + shop + ".svc", "web." + shop + ".svc.cluster.local"} {
			if a := mustGet(t, "http://"+name); !strings.HasPrefix(a.Pod, "web-") || a.Port != "8080" {
				t.Errorf("%s: got %+v, want port 8080 of a pod web-*", name, a)
			}
		}
	})
	t.Run("full name with a trailing dot", func(t *testing.T) {
		testTrailingDot(t, "web."+shop, 80)
		testTrailingDot(t, "db."+data, 6543)
	})
	t.Run("no short names for the second namespace", func(t *testing.T) {
		mustGet(t, "http://db."+data+":6543")
		if err := unresolvable("db")(); err != nil {
			t.Error(err)
		}
	})
	t.Run("round-robin over ready pods", func(t *testing.T) {
		count := make(map[string]int)
		for range 9 {
			count[mustGet(t, "http://web").Pod]++
		}
		if len(count) != 3 {
			t.Errorf("got responses from pods %v, want three pods", count)
		}
		for pod, n := range count {
			if n != 3 {
				t.Errorf("%s: got %d of 9 requests, want 3", pod, n)
			}
		}
	})
	t.Run("pod names of a headless service", func(t *testing.T) { testPodNames(t, data) })
	t.Run("round-robin over pods of a headless service", func(t *testing.T) {
		count := make(map[string]int)
		for range 6 {
			count[mustGet(t, "http://db."+data+":5432").Pod]++
		}
		if count["db-0"] != 3 || count["db-1"] != 3 {
			t.Errorf("got responses from pods %v, want 3 from each", count)
		}
	})
	t.Run("unique loopback addresses", func(t *testing.T) { testUniqueAddresses(t, data) })
}

// testTrailingDot checks that libc and curl resolve the full name of a Service also
// with a trailing dot, to the same single address.
func testTrailingDot(t *testing.T, host string, port int) {
	t.Helper()
	name := host + ".svc.cluster.local"
	want := strings.Fields(runCommand(t, "getent", "ahostsv4", name))[0]
	for line := range strings.Lines(runCommand(t, "getent", "ahostsv4", name+".")) {
		if address := strings.Fields(line)[0]; address != want {
			t.Errorf("getent ahostsv4 %s.: got %s, want only %s", name, address, want)
		}
	}
	url := fmt.Sprintf("http://%s.:%d/", name, port)
	if out := runCommand(t, "curl", "-sS", "--noproxy", "*", "--max-time", "15", url); !strings.Contains(out, `"message":"ok"`) {
		t.Errorf("curl %s: got %q, want go-ok's answer", url, out)
	}
}

// testPodNames checks that each pod of the headless service db has a name.
func testPodNames(t *testing.T, data string) {
	for _, pod := range []string{"db-0", "db-1"} {
		for _, suffix := range []string{"", ".svc", ".svc.cluster.local"} {
			for _, port := range []string{"6543", "5432"} { // the service's port, and the pods' port
				if a := mustGet(t, "http://"+pod+".db."+data+suffix+":"+port); a.Pod != pod {
					t.Errorf("got a response from %s, want %s", a.Pod, pod)
				}
			}
		}
	}
}

func testUniqueAddresses(t *testing.T, data string) {
	seen := make(map[string]string)
	for _, name := range []string{"web", "db." + data, "db-0.db." + data, "db-1.db." + data} {
		address, err := resolve(name)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[address]; ok || !strings.HasPrefix(address, "127.") {
			t.Errorf("%s: got address %s, same as %q; want a unique loopback address", name, address, other)
		}
		seen[address] = name
	}
}

func TestPortOutlivesPods(t *testing.T) {
	ns := newNamespace(t)
	apply(t, deployment(ns, "web", 0), service(ns, "web", 80, ""))
	d := up(t, "-n", ns, "--hold", "0")
	d.waitForLog(t, "no pods")
	if _, err := get("http://web"); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("without pods: got %v, want a reset", err)
	}
	scale := func(n int) {
		kubectl(t, "", "-n", ns, "scale", "deployment/web", fmt.Sprintf("--replicas=%d", n))
		waitForReadyPods(t, ns, "web", n)
	}
	scale(1)
	eventually(t, "the first pod answers", answered("http://web"))
	first := mustGet(t, "http://web").Pod
	kubectl(t, "", "-n", ns, "delete", "pod", first, "--wait=false")
	eventually(t, "its successor answers", func() error {
		a, err := get("http://web")
		if err == nil && a.Pod == first {
			err = fmt.Errorf("got a response from the old pod %s", first)
		}
		return err
	})
	scale(0)
	eventually(t, "connections are reset", func() error {
		if _, err := get("http://web"); !errors.Is(err, syscall.ECONNRESET) {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
}

func TestServicesAreAddedChangedAndRemoved(t *testing.T) {
	ns := newNamespace(t)
	d := up(t, "-n", ns)
	d.waitForLog(t, "namespace "+ns+" not found or empty")

	apply(t, deployment(ns, "web", 1), service(ns, "web", 80, ""))
	eventually(t, "a new service answers", answered("http://web."+ns))
	d.waitForLog(t, "+ web."+ns)
	address, err := resolve("web")
	if err != nil {
		t.Fatal(err)
	}

	apply(t, service(ns, "web", 81, ""))
	eventually(t, "the new port answers", answered("http://web."+ns+":81"))
	eventually(t, "the old port is closed", func() error { return refused("http://" + address + ":80") })
	d.waitForLog(t, "~ web."+ns)
	if now, err := resolve("web"); now != address {
		t.Errorf("after the change: got address %s, %v; want %s", now, err, address)
	}

	kubectl(t, "", "-n", ns, "delete", "service", "web")
	eventually(t, "the deleted service doesn't resolve", unresolvable("web."+ns))
	eventually(t, "the port of the deleted service is closed", func() error { return refused("http://" + address + ":81") })
	d.waitForLog(t, "- web."+ns)
}

// Each signal shuts kubeshore down, also with an open connection.
func TestSignalsShutDownCleanly(t *testing.T) {
	ns := namespaceWithWeb(t)
	// A signal that is ignored here would also be ignored by child processes.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		t.Run(sig.String(), func(t *testing.T) {
			d := up(t, "-n", ns)
			mustGet(t, "http://web")
			address, err := resolve("web")
			if err != nil {
				t.Fatal(err)
			}
			conn, err := net.Dial("tcp", net.JoinHostPort(address, "80"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			d.stop(t, sig)
			d.waitForLog(t, `msg="cleaned up"`)
			if _, err := io.ReadAll(conn); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("open connection: got %v, want a reset", err)
			}
			if err := refused("http://" + address + ":80"); err != nil {
				t.Error(err)
			}
			if err := unresolvable("web." + ns)(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSecondUpIsRefused(t *testing.T) {
	ns := newNamespace(t)
	d := up(t, "-n", ns)
	expectFailure(t, fmt.Sprintf("kubeshore: already running (pid %d, since ", d.Process.Pid), "up", "-n", ns)
}

// The kubeconfig names an API server that is unreachable, or one with an
// untrusted certificate.
func TestWrongAPIServerFailsAtStart(t *testing.T) {
	config := filepath.Join(t.TempDir(), "kubeconfig")
	raw := kubectl(t, "", "config", "view", "--raw", "--minify", "--flatten")
	for setting, want := range map[string]string{
		"--server=https://127.0.0.1:1":        "cannot reach API server https://127.0.0.1:1: ",
		"--tls-server-name=elsewhere.example": "isn't trusted by the kubeconfig's certificate-authority: ",
	} {
		if err := os.WriteFile(config, []byte(raw), 0o600); err != nil {
			t.Fatal(err)
		}
		name := kubectl(t, "", "--kubeconfig", config, "config", "view", "-o", "jsonpath={.clusters[0].name}")
		kubectl(t, "", "--kubeconfig", config, "config", "set-cluster", name, setting)
		expectFailure(t, want, "up", "--kubeconfig", config)
	}
}

// A pod that isn't ready gets no connections until it is.
func TestUnreadyPodsGetNoConnections(t *testing.T) {
	ns := newNamespace(t)
	unready := strings.Replace(deployment(ns, "web", 1), "tcpSocket: {port: http}", "tcpSocket: {port: 1}", 1)
	apply(t, unready, service(ns, "web", 80, ""))
	d := up(t, "-n", ns, "--hold", "0")
	d.waitForLog(t, "0/1 ready")
	if _, err := get("http://web"); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("without a ready pod: got %v, want a reset", err)
	}
	d.waitForLog(t, "no pod is ready")
	apply(t, deployment(ns, "web", 1))
	eventually(t, "a ready pod answers", answered("http://web"))
}

// A user who can read one of two namespaces gets that one forwarded, and the
// missing permission is logged.
func TestOnlyReadableNamespacesAreForwarded(t *testing.T) {
	readable, unreadable := newNamespace(t), newNamespace(t)
	apply(t, service(readable, "web", 80, ""))
	config, token := limitedUser(t, readable, mayReadServices, mayReadEndpoints)

	expectFailure(t, "not allowed to list services in namespace "+unreadable, "up", "--kubeconfig", config, "-n", unreadable)
	d := up(t, "--kubeconfig", config, "-n", unreadable+","+readable)
	d.waitForLog(t, "not allowed to list services in namespace "+unreadable)
	if _, err := resolve("web." + readable); err != nil {
		t.Error(err)
	}
	if strings.Contains(d.log.String(), token) {
		t.Error("log contains the token")
	}
}

// errorMessage matches an error as commands print it: one line, and another one
// if there is a hint.
var errorMessage = regexp.MustCompile(`^kubeshore: .*\n(hint: .*\n)?$`)

// expectFailure runs kubeshore, which must exit with status 1 and an error
// message that contains text, and must not change the hosts file.
func expectFailure(t *testing.T, text string, args ...string) {
	t.Helper()
	before, err := os.ReadFile(hostsFile)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	out, err := cmd.CombinedOutput()
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("%s: got %v, want status 1", strings.Join(args, " "), err)
	}
	if output := string(out); !strings.Contains(output, text) || !errorMessage.MatchString(output) {
		t.Errorf("%s: got output %q, want an error message with %q", strings.Join(args, " "), output, text)
	}
	if after, _ := os.ReadFile(hostsFile); string(after) != string(before) {
		t.Errorf("%s: got a changed %s, want it unchanged", strings.Join(args, " "), hostsFile)
	}
}
