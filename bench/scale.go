package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kubeshore/kubeshore/internal/backoff"
	"github.com/kubeshore/kubeshore/test/peer"
)

const (
	scalePods     = 100              // with a Service of two ports each
	idleWindow    = 10 * time.Second // to measure idle CPU time in
	changeSamples = 5
	lookups       = 200
)

// serviceSet is a namespace with many Services, named svc-0, svc-1 and so on.
type serviceSet struct {
	kubeconfig, namespace string
	services              int
	ports                 []uint16 // of each
	hasPods               bool     // the Services have pods
}

func (c serviceSet) name(i int) string { return fmt.Sprintf("svc-%d.%s", i, c.namespace) }

// scaleResult holds the measurements of one serviceSet.
type scaleResult struct {
	set            serviceSet
	requests       int           // to the API server until kubeshore was ready; 0 if not counted
	servedAfter    time.Duration // from the start until all names resolved and all ports answered
	memory         int64         // resident bytes at that time
	idleCPU        time.Duration // within idleWindow
	knownAfter     time.Duration // from a new Service until libc resolves its name; median
	lookup         time.Duration // of a name by libc
	baselineLookup time.Duration // the same without kubeshore
}

// measureScale measures each serviceSet with a new kubeshore process.
// kubeshore writes to this machine's hosts file. There is no other forwarder
// to compare with, because kubectl forwards a single Service.
func (s *testbed) measureScale(ctx context.Context, o options, dir string, log io.Writer) ([]scaleResult, error) {
	small, large := scalePods, 1000
	fake := []int{scalePods, 1000, 5000}
	if o.quick {
		small, large, fake = 3, 10, []int{10, 20}
	}
	if err := s.runKubectl(ctx, scaleManifest(s.target.namespace, small, large), "apply", "-f", "-"); err != nil {
		return nil, err
	}
	for _, app := range []string{"small", "large"} {
		if err := s.runKubectl(ctx, "", "wait", "--namespace", s.target.namespace+"-"+app, "--timeout=5m", "--for=condition=Ready", "pod", "--all"); err != nil {
			return nil, err
		}
	}
	sets := []serviceSet{
		{kubeconfig: s.target.kubeconfig, namespace: s.target.namespace + "-small", services: small, ports: []uint16{peer.Echo, peer.Greet}, hasPods: true},
		{kubeconfig: s.target.kubeconfig, namespace: s.target.namespace + "-large", services: large, ports: []uint16{peer.Echo}, hasPods: true},
	}
	all := make([]scaleResult, 0, len(sets)+len(fake))
	for _, c := range sets {
		f, err := s.measureServiceSet(ctx, o, c, dir, nil)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(log, "scale: %+v\n", f)
		all = append(all, f)
	}
	for _, n := range fake {
		api, err := newFakeAPI(filepath.Join(dir, "fake"+strconv.Itoa(n)), n)
		if err != nil {
			return nil, err
		}
		f, err := s.measureServiceSet(ctx, o, api.serviceSet(), dir, api)
		api.close()
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(log, "scale, without a cluster: %+v\n", f)
		all = append(all, f)
	}
	return all, nil
}

// measureServiceSet measures one serviceSet. If it comes from a fake API
// server, api is that server.
func (s *testbed) measureServiceSet(ctx context.Context, o options, c serviceSet, dir string, api *fakeAPI) (f scaleResult, err error) {
	f.set = c
	if f.baselineLookup, err = lookupTime(ctx, "localhost"); err != nil {
		return f, err
	}
	begin := time.Now()
	p, err := startProcess(ctx, filepath.Join(dir, "scale"), nil, o.kubeshore, "up", "--kubeconfig", c.kubeconfig, "--namespace", c.namespace)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if err := p.waitForLog(ctx, func(log string) bool { return strings.Contains(log, "ready: ") }); err != nil {
		return f, err
	}
	if err := c.waitUntilServed(ctx); err != nil {
		return f, err
	}
	f.servedAfter = time.Since(begin)
	if api != nil {
		f.requests = int(api.requests.Load())
	}
	pid := p.cmd.Process.Pid
	if f.memory, err = residentMemory(pid); err != nil {
		return f, err
	}
	if f.idleCPU, err = idleCPUTime(ctx, pid); err != nil {
		return f, err
	}
	if f.lookup, err = lookupTime(ctx, c.name(c.services-1)); err != nil {
		return f, err
	}
	if api == nil {
		f.knownAfter, err = s.measureChange(ctx, c)
	}
	return f, err
}

// waitUntilServed returns when libc resolves every name and, if there are
// pods, every port has answered.
func (c serviceSet) waitUntilServed(ctx context.Context) error {
	checks, ctx := errgroup.WithContext(ctx)
	checks.SetLimit(8)
	const batch = 10
	for first := 0; first < c.services; first += batch {
		checks.Go(func() error {
			names := make([]string, 0, batch)
			for i := first; i < min(first+batch, c.services); i++ {
				names = append(names, c.name(i))
			}
			addresses, err := getent(ctx, names)
			if err != nil {
				return err
			}
			if !c.hasPods {
				return nil
			}
			for _, address := range addresses {
				for _, port := range c.ports {
					if err := c.checkPort(ctx, address, port); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	return checks.Wait()
}

// checkPort connects to a port and reads one byte.
func (c serviceSet) checkPort(ctx context.Context, address string, port uint16) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(int(port))))
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if port == peer.Echo {
		if _, err := io.WriteString(conn, "x"); err != nil {
			return err
		}
	}
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err
}

// getent resolves names to addresses with libc.
func getent(ctx context.Context, names []string) ([]string, error) {
	out, err := exec.CommandContext(ctx, "getent", append([]string{"ahostsv4"}, names...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("bench: resolve %s and following names: %w", names[0], err)
	}
	var addresses []string
	for text := range strings.Lines(string(out)) {
		if fields := strings.Fields(text); len(fields) > 1 && fields[1] == "STREAM" {
			addresses = append(addresses, fields[0])
		}
	}
	if len(addresses) != len(names) {
		return nil, fmt.Errorf("bench: resolve names: got %d addresses for %d names", len(addresses), len(names))
	}
	return addresses, nil
}

// lookupTime returns the time of one lookup of a name by libc.
func lookupTime(ctx context.Context, name string) (time.Duration, error) {
	names := make([]string, lookups)
	for i := range names {
		names[i] = name
	}
	base, err := getentTime(ctx, names[:1])
	if err != nil {
		return 0, err
	}
	all, err := getentTime(ctx, names)
	return (all - base) / (lookups - 1), err
}

// getentTime returns the run time of getent with the given names.
func getentTime(ctx context.Context, names []string) (time.Duration, error) {
	begin := time.Now()
	err := exec.CommandContext(ctx, "getent", append([]string{"ahostsv4"}, names...)...).Run()
	return time.Since(begin), err
}

// idleCPUTime returns the CPU time that an idle process uses within
// idleWindow.
func idleCPUTime(ctx context.Context, pid int) (time.Duration, error) {
	if err := backoff.Sleep(ctx, 2*time.Second); err != nil { // let connections close
		return 0, err
	}
	before, err := cpuTime(pid)
	if err != nil {
		return 0, err
	}
	if err := backoff.Sleep(ctx, idleWindow); err != nil {
		return 0, err
	}
	after, err := cpuTime(pid)
	return after - before, err
}

// measureChange returns the median time from the creation of a Service until
// libc resolves its name.
func (s *testbed) measureChange(ctx context.Context, c serviceSet) (time.Duration, error) {
	times := make([]float64, 0, changeSamples)
	for i := range changeSamples {
		name := fmt.Sprintf("new-%d", i)
		if err := s.runKubectl(ctx, "", "--namespace", c.namespace, "create", "service", "clusterip", name, "--tcp=80"); err != nil {
			return 0, err
		}
		begin := time.Now()
		for {
			if _, err := getent(ctx, []string{name + "." + c.namespace}); err == nil {
				break
			}
			if err := backoff.Sleep(ctx, 5*time.Millisecond); err != nil {
				return 0, err
			}
		}
		times = append(times, time.Since(begin).Seconds())
	}
	return time.Duration(median(times) * float64(time.Second)), nil
}

// scaleManifest returns two namespaces: one with a pod per Service, and one
// with many Services that share ten pods.
func scaleManifest(namespace string, pods, services int) string {
	var b strings.Builder
	few := min(10, services)
	for app, n := range map[string]struct{ pods, services, ports int }{"small": {pods, pods, 2}, "large": {few, services, 1}} {
		fmt.Fprintf(&b, scaleTemplate, namespace+"-"+app, n.pods, peer.HTTP)
		for i := range n.services {
			fmt.Fprintf(&b, "---\n{apiVersion: v1, kind: Service, metadata: {name: svc-%d, namespace: %s-%s}, spec: {"+
				"selector: {statefulset.kubernetes.io/pod-name: pod-%d}, ports: [{name: echo, port: %d}", i, namespace, app, i%n.pods, peer.Echo)
			if n.ports > 1 {
				fmt.Fprintf(&b, ", {name: greet, port: %d}", peer.Greet)
			}
			b.WriteString("]}}\n")
		}
	}
	return b.String()
}

const scaleTemplate = `---
apiVersion: v1
kind: Namespace
metadata: {name: %[1]s}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: pod, namespace: %[1]s}
spec:
  podManagementPolicy: Parallel
  replicas: %[2]d
  selector: {matchLabels: {app: pod}}
  template:
    metadata: {labels: {app: pod}}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 1
      containers:
        - {name: peer, image: "kubeshore.test/peer:1", imagePullPolicy: IfNotPresent, readinessProbe: {httpGet: {path: /, port: %[3]d}, periodSeconds: 5}}
`

// scalePage returns docs/scale.md.
func scalePage(env environment, all []scaleResult) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Many services

`+"`make bench`"+` writes this page. It measures kubeshore with many services, in a single run on one machine that also
runs the cluster.

- %s, %s, %d cores, %s
- kubeshore %s, Kubernetes %s

| | services reachable after | resident memory | CPU when idle | new service known after | API requests at start | lookup without kubeshore | lookup with kubeshore |
| --- | --- | --- | --- | --- | --- | --- | --- |
`, env.date.Format("2 January 2006"), env.cpu, env.cores, env.memory, env.kubeshore, env.server)
	for _, f := range all {
		title, change, requests := fmt.Sprintf("%d services, %d ports", f.set.services, f.set.services*len(f.set.ports)), "–", "–"
		if f.requests > 0 {
			title, requests = title+", no cluster", strconv.Itoa(f.requests)
		} else {
			change = fmt.Sprintf("%d ms", f.knownAfter.Milliseconds())
		}
		fmt.Fprintf(&b, "| %s | %.1f s | %.0f MB | %.2f s in %.0f s | %s | %s | %.0f µs | %.0f µs |\n", title, f.servedAfter.Seconds(), float64(f.memory)/1e6,
			f.idleCPU.Seconds(), idleWindow.Seconds(), change, requests, float64(f.baselineLookup.Nanoseconds())/1e3, float64(f.lookup.Nanoseconds())/1e3)
	}
	b.WriteString(`
The columns:

- **Services reachable after**: from the start of the program until libc (getent) resolves every name and every port
  has returned a byte from a pod. Without a cluster: until every name resolves.
- **CPU when idle**: with a cluster, each service had a connection shortly before, so kubeshore keeps connections to
  its pods warm. Without a cluster, there was no connection.
- **API requests at start**: counted without a cluster, where a fake API server serves the services and endpoints and
  nothing else.
- **Lookup**: libc looks up localhost without kubeshore, and a service with it. libc reads the hosts file for each
  lookup, so each name in the file makes every lookup slower.

kubefwd 1.25.16 on a similar machine: 100 services with 200 ports take about a minute to become reachable, with 196 MB
and 178 connections to the API server. 1,000 services in one namespace never become reachable, because kubefwd has
256 addresses per namespace.
`)
	return b.String()
}

// runScale measures kubeshore with many services and writes the page.
func runScale(ctx context.Context, o options, dir string, env environment, log io.Writer) (err error) {
	s, err := newTestbed(ctx, o, dir)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
		defer cancel()
		err = errors.Join(err, s.runKubectl(ctx, "", "delete", "namespace", s.target.namespace+"-small", s.target.namespace+"-large", "--ignore-not-found", "--wait=false"), s.cleanUp(ctx))
	}()
	all, err := s.measureScale(ctx, o, dir, log)
	if err != nil {
		return err
	}
	page := scalePage(env, all)
	fmt.Fprint(log, page)
	if o.out == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(filepath.Dir(o.out), "scale.md"), []byte(page), 0o644)
}
