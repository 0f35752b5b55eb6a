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
	"strings"
	"syscall"
	"testing"
)

// A Deployment behind a Service whose target port is named, in the first
// namespace, and a StatefulSet behind a headless one in the second: all the
// names, and all the pods.
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
				t.Errorf("%s: %+v", name, a)
			}
		}
	})
	t.Run("the second namespace has no bare names", func(t *testing.T) {
		mustGet(t, "http://db."+data+":6543")
		if address, err := resolve("db"); err == nil {
			t.Errorf("db is %s", address)
		}
	})
	t.Run("every ready pod in turn", func(t *testing.T) {
		count := make(map[string]int)
		for range 9 {
			count[mustGet(t, "http://web").Pod]++
		}
		if len(count) != 3 {
			t.Errorf("of three pods these answered: %v", count)
		}
		for pod, n := range count {
			if n != 3 {
				t.Errorf("%s answered %d of 9", pod, n)
			}
		}
	})
	t.Run("each pod of a headless service by its name", func(t *testing.T) {
		for _, pod := range []string{"db-0", "db-1"} {
			for _, suffix := range []string{"", ".svc", ".svc.cluster.local"} {
				for _, port := range []string{"6543", "5432"} { // the service's port, and the pods' own
					if a := mustGet(t, "http://"+pod+".db."+data+suffix+":"+port); a.Pod != pod {
						t.Errorf("%s answers for %s", a.Pod, pod)
					}
				}
			}
		}
	})
	t.Run("all pods of a headless service by its name", func(t *testing.T) {
		count := make(map[string]int)
		for range 6 {
			count[mustGet(t, "http://db."+data+":5432").Pod]++
		}
		if count["db-0"] != 3 || count["db-1"] != 3 {
			t.Errorf("answers %v", count)
		}
	})
	t.Run("every address is loopback, and each another", func(t *testing.T) {
		seen := make(map[string]string)
		for _, name := range []string{"web", "db." + data, "db-0.db." + data, "db-1.db." + data} {
			address, err := resolve(name)
			if err != nil {
				t.Fatal(err)
			}
			if other, ok := seen[address]; ok || !strings.HasPrefix(address, "127.") {
				t.Errorf("%s has %s, and so has %q", name, address, other)
			}
			seen[address] = name
		}
	})
}

// The port of a Service outlives its pods.
func TestPortOutlivesPods(t *testing.T) {
	ns := newNamespace(t)
	apply(t, deployment(ns, "web", 0), service(ns, "web", 80, ""))
	d := up(t, "-n", ns, "--hold", "0")
	d.waitForLog(t, "no pods")
	if _, err := get("http://web"); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("without pods: %v, want a reset", err)
	}
	scale := func(n int) {
		kubectl(t, "", "-n", ns, "scale", "deployment/web", fmt.Sprintf("--replicas=%d", n))
		waitForReadyPods(t, ns, "web", n)
	}
	scale(1)
	eventually(t, "the first pod answers", func() error {
		_, err := get("http://web")
		return err
	})
	first := mustGet(t, "http://web").Pod
	kubectl(t, "", "-n", ns, "delete", "pod", first, "--wait=false")
	eventually(t, "its successor answers", func() error {
		a, err := get("http://web")
		if err == nil && a.Pod == first {
			err = errors.New("it is still the old one")
		}
		return err
	})
	scale(0)
	eventually(t, "nothing answers any more", func() error {
		if _, err := get("http://web"); !errors.Is(err, syscall.ECONNRESET) {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
}

func TestServicesAreAddedChangedAndRemoved(t *testing.T) {
	ns := newNamespace(t)
	d := up(t, "-n", ns)
	d.waitForLog(t, "no services in namespace "+ns)

	apply(t, deployment(ns, "web", 1), service(ns, "web", 80, ""))
	eventually(t, "a new service answers", func() error {
		_, err := get("http://web." + ns)
		return err
	})
	d.waitForLog(t, "+ web."+ns)
	address, err := resolve("web")
	if err != nil {
		t.Fatal(err)
	}

	apply(t, service(ns, "web", 81, ""))
	eventually(t, "its new port answers", func() error {
		_, err := get("http://web." + ns + ":81")
		return err
	})
	eventually(t, "its old port is closed", func() error { return refused("http://" + address + ":80") })
	d.waitForLog(t, "~ web."+ns)
	if now, err := resolve("web"); now != address {
		t.Errorf("its address was %s and is %s, %v", address, now, err)
	}

	kubectl(t, "", "-n", ns, "delete", "service", "web")
	eventually(t, "its name is gone", func() error {
		if address, err := resolve("web." + ns); err == nil {
			return fmt.Errorf("it is %s", address)
		}
		return nil
	})
	eventually(t, "its port is closed", func() error { return refused("http://" + address + ":81") })
	d.waitForLog(t, "- web."+ns)
}

// Each of the signals ends it in good order, an open connection or not.
func TestSignalsShutDownCleanly(t *testing.T) {
	ns := namespaceWithWeb(t)
	// A signal that is ignored here would be ignored by what we run, too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		t.Run(sig.String(), func(t *testing.T) {
			d := up(t, "-n", ns)
			mustGet(t, "http://web")
			address, err := resolve("web")
			if err != nil {
				t.Fatal(err)
			}
			open, err := net.Dial("tcp", net.JoinHostPort(address, "80"))
			if err != nil {
				t.Fatal(err)
			}
			defer open.Close()
			d.stop(t, sig)
			d.waitForLog(t, "everything is taken back")
			if _, err := io.ReadAll(open); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the open connection ends with %v, want a reset", err)
			}
			if err := refused("http://" + address + ":80"); err != nil {
				t.Error(err)
			}
			if _, err := resolve("web." + ns); err == nil {
				t.Error("the name is still there")
			}
		})
	}
}

func TestSecondUpIsRefused(t *testing.T) {
	ns := newNamespace(t)
	d := up(t, "-n", ns)
	expectFailure(t, fmt.Sprintf("kubeshore runs already: process %d, since ", d.Process.Pid), "up", "-n", ns)
}

// The kubeconfig names an API server that is not there, or not the one that it
// vouches for.
func TestWrongAPIServerFailsAtStart(t *testing.T) {
	config := filepath.Join(t.TempDir(), "kubeconfig")
	raw := kubectl(t, "", "config", "view", "--raw", "--minify", "--flatten")
	for setting, want := range map[string]string{
		"--server=https://127.0.0.1:1":        "can't be reached",
		"--tls-server-name=elsewhere.example": "is not the one that the kubeconfig's certificate-authority vouches for",
	} {
		if err := os.WriteFile(config, []byte(raw), 0o600); err != nil {
			t.Fatal(err)
		}
		cluster := kubectl(t, "", "--kubeconfig", config, "config", "view", "-o", "jsonpath={.clusters[0].name}")
		kubectl(t, "", "--kubeconfig", config, "config", "set-cluster", cluster, setting)
		expectFailure(t, want, "up", "--kubeconfig", config)
	}
}

// A pod that is there and not ready gets no connections until it is.
func TestUnreadyPodsGetNoConnections(t *testing.T) {
	ns := newNamespace(t)
	unready := strings.Replace(deployment(ns, "web", 1), "tcpSocket: {port: http}", "tcpSocket: {port: 1}", 1)
	apply(t, unready, service(ns, "web", 80, ""))
	d := up(t, "-n", ns, "--hold", "0")
	d.waitForLog(t, "0/1 ready")
	if _, err := get("http://web"); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("without a ready pod: %v, want a reset", err)
	}
	d.waitForLog(t, "no pod is ready")
	apply(t, deployment(ns, "web", 1))
	eventually(t, "a ready pod answers", func() error {
		_, err := get("http://web")
		return err
	})
}

// A user who may read one namespace is served that one, and told of the other.
func TestOnlyReadableNamespacesAreForwarded(t *testing.T) {
	may, maynot := newNamespace(t), newNamespace(t)
	apply(t, service(may, "web", 80, ""))
	config, token := limitedUser(t, may, mayReadServices, mayReadEndpoints)

	expectFailure(t, "may not list services in namespace "+maynot, "up", "--kubeconfig", config, "-n", maynot)
	d := up(t, "--kubeconfig", config, "-n", maynot+","+may)
	d.waitForLog(t, "may not list services in namespace "+maynot)
	if _, err := resolve("web." + may); err != nil {
		t.Error(err)
	}
	if strings.Contains(d.log.String(), token) {
		t.Error("the log has the token")
	}
}

// expectFailure runs kubeshore, which must end with status 1 and one line that has the
// text, and leave the machine untouched.
func expectFailure(t *testing.T, text string, args ...string) {
	t.Helper()
	before, err := os.ReadFile(hostsFile)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	out, err := cmd.CombinedOutput()
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("%s: %v, want status 1", strings.Join(args, " "), err)
	}
	if said := string(out); !strings.Contains(said, text) || strings.Count(said, "\n") != 1 {
		t.Errorf("%s says %q, want a line with %q", strings.Join(args, " "), said, text)
	}
	if after, _ := os.ReadFile(hostsFile); string(after) != string(before) {
		t.Errorf("%s changed %s", strings.Join(args, " "), hostsFile)
	}
}
