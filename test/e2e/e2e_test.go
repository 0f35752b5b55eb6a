//go:build e2e

// Package e2e has the tests of what a user does: the real program, against the
// real cluster that KUBECONFIG names, with this machine's own hosts file,
// resolver and sockets. They need root, kubectl, and the images
// kubeshore.test/go-ok:1 and kubeshore.test/peer:1 in the cluster (bin/images).
package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
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

// deployment returns go-ok, as a Deployment of that many pods that listen on
// 8080 by the port name http.
func deployment(namespace, name string, replicas int) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  replicas: %[3]d
  selector: {matchLabels: {app: %[2]s}}
  template:
    metadata: {labels: {app: %[2]s}}
    spec: %[4]s`, namespace, name, replicas, podSpec(8080))
}

func statefulSet(namespace, name string, replicas int) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  serviceName: %[2]s
  podManagementPolicy: Parallel
  replicas: %[3]d
  selector: {matchLabels: {app: %[2]s}}
  template:
    metadata: {labels: {app: %[2]s}}
    spec: %[4]s`, namespace, name, replicas, podSpec(5432))
}

func podSpec(port int) string {
	return fmt.Sprintf(`{automountServiceAccountToken: false, terminationGracePeriodSeconds: 1, containers: [{
      name: go-ok, image: "kubeshore.test/go-ok:1", imagePullPolicy: IfNotPresent,
      env: [{name: PORT, value: "%[1]d"}], ports: [{name: http, containerPort: %[1]d}],
      readinessProbe: {tcpSocket: {port: http}, periodSeconds: 1}}]}`, port)
}

// service returns a Service of the pods with the label app=name, whose port
// leads to the pods' port http. clusterIP is "" or "None".
func service(namespace, name string, port int, clusterIP string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %[2]s, namespace: %[1]s}
spec: {clusterIP: %[4]q, selector: {app: %[2]s}, ports: [{name: http, port: %[3]d, targetPort: http}]}`, namespace, name, port, clusterIP)
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

// resolve asks libc for the address of a name, as most programs do.
func resolve(name string) (string, error) {
	addresses, err := net.LookupHost(name)
	if err != nil {
		return "", err
	}
	return addresses[0], nil
}

// response is what go-ok says.
type response struct{ Message, Pod, Port string }

// get asks a URL over a connection of its own.
func get(address string) (response, error) {
	client := &http.Client{
		Timeout: 15 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				host, port, err := net.SplitHostPort(addr)
				if err != nil {
					return nil, err
				}
				if host, err = resolve(host); err != nil {
					return nil, err
				}
				var d net.Dialer
				return d.DialContext(ctx, network, net.JoinHostPort(host, port))
			},
		},
	}
	resp, err := client.Get(address)
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	var a response
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return response{}, err
	}
	if a.Message != "ok" {
		return a, fmt.Errorf("%s says %+v", address, a)
	}
	return a, nil
}

func mustGet(t *testing.T, address string) response {
	t.Helper()
	a, err := get(address)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// refused checks that nothing listens at a URL's host and port.
func refused(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	conn, err := net.DialTimeout("tcp", u.Host, 5*time.Second)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("%s accepts", u.Host)
	}
	return nil
}

// daemon is a running `kubeshore up`.
type daemon struct {
	*exec.Cmd
	log         logFile
	exited      chan struct{}
	err         error // once ended
	hostsBefore []byte
}

// logFile is what a daemon has said so far.
type logFile struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logFile) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// launch runs kubeshore up without waiting for anything. It is stopped with
// the test, and must then leave the hosts file as it was.
func launch(t *testing.T, args ...string) *daemon {
	t.Helper()
	d := startDaemon(t, exec.Command(program, append([]string{"up"}, args...)...))
	t.Cleanup(func() {
		d.stop(t, syscall.SIGTERM)
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", d.log.String())
		}
	})
	return d
}

// startDaemon starts a daemon by a command. The caller ends it.
func startDaemon(t *testing.T, command *exec.Cmd) *daemon {
	t.Helper()
	before, err := os.ReadFile(hostsFile)
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{Cmd: command, exited: make(chan struct{}), hostsBefore: before}
	d.Stderr = &d.log
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		d.err = d.Wait()
		close(d.exited)
	}()
	return d
}

// up runs kubeshore up until it is ready.
func up(t *testing.T, args ...string) *daemon {
	t.Helper()
	d := launch(t, args...)
	d.waitForLog(t, "msg=ready")
	return d
}

// waitForLog waits until the log has the text.
func (d *daemon) waitForLog(t *testing.T, text string) {
	t.Helper()
	eventually(t, fmt.Sprintf("the log says %q", text), func() error {
		if strings.Contains(d.log.String(), text) {
			return nil
		}
		select {
		case <-d.exited:
			t.Fatalf("the daemon ended: %v\n%s", d.err, d.log.String())
		default:
		}
		return fmt.Errorf("it has\n%s", d.log.String())
	})
}

// stop sends a signal and checks that the daemon ends in good order and that
// the machine is as it was.
func (d *daemon) stop(t *testing.T, signal os.Signal) {
	t.Helper()
	select {
	case <-d.exited:
		return
	default:
	}
	if err := d.Process.Signal(signal); err != nil {
		t.Error(err)
	}
	d.waitForExit(t)
}

// waitForExit checks that the daemon, which has been told to, ends in good order and
// that the machine is as it was.
func (d *daemon) waitForExit(t *testing.T) {
	t.Helper()
	select {
	case <-d.exited:
	case <-time.After(conditionTimeout):
		_ = d.Process.Kill()
		t.Fatalf("it doesn't end; it says\n%s", d.log.String())
	}
	if d.err != nil {
		t.Errorf("it ends with %v", d.err)
	}
	d.checkRestored(t)
}

// linesSince returns what the log has got since it was that long.
func (d *daemon) linesSince(from int) []string {
	return strings.Split(strings.TrimSuffix(d.log.String()[from:], "\n"), "\n")
}

// waitForLogOnce waits until the log, since it was that long, has a line with the
// text, checks that a moment later it has no other, and returns it.
func (d *daemon) waitForLogOnce(t *testing.T, from int, text string) string {
	t.Helper()
	find := func() (found []string) {
		for _, line := range d.linesSince(from) {
			if strings.Contains(line, text) {
				found = append(found, line)
			}
		}
		return found
	}
	eventually(t, fmt.Sprintf("the log says %q", text), func() error {
		if len(find()) == 0 {
			return fmt.Errorf("it says\n%s", strings.Join(d.linesSince(from), "\n"))
		}
		return nil
	})
	pause(t, 300*time.Millisecond)
	found := find()
	if len(found) > 1 {
		t.Errorf("it says\n%s\nwant one line with %q", strings.Join(found, "\n"), text)
	}
	return found[0]
}

// logLen returns how long the log is.
func (d *daemon) logLen() int { return len(d.log.String()) }

// hostsRestored tells whether the hosts file is as it was before the daemon.
func (d *daemon) hostsRestored() error {
	after, err := os.ReadFile(hostsFile)
	if err == nil && !bytes.Equal(after, d.hostsBefore) {
		err = fmt.Errorf("%s was\n%s\nand is\n%s", hostsFile, d.hostsBefore, after)
	}
	return err
}

// checkRestored checks that the hosts file is as it was before the daemon.
func (d *daemon) checkRestored(t *testing.T) {
	t.Helper()
	if err := d.hostsRestored(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob("/etc/.hosts*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if left, _ := filepath.Glob("/run/kubeshore*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
