package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/kubeshore/kubeshore/test/netem"
	"github.com/kubeshore/kubeshore/test/peer"
)

const (
	serviceName     = "peer"
	podReadyTimeout = 2 * time.Minute
	cleanUpTimeout  = 10 * time.Second
)

// testbed is the environment of the benchmarks: a pod of package peer in a
// separate namespace, and a proxy that delays connections to the API server.
type testbed struct {
	kubectl        string
	target         target // with a kubeconfig that leads directly to the API server
	slowKubeconfig string // leads through the proxy
	proxy          *netem.Proxy
	proxyListener  net.Listener
	effort         effort
}

// newTestbed creates the testbed with its files in dir. The proxy doesn't run
// yet.
func newTestbed(ctx context.Context, o options, dir string) (*testbed, error) {
	s := &testbed{kubectl: o.kubectl, slowKubeconfig: filepath.Join(dir, "slow.kubeconfig"), effort: fullEffort()}
	if o.quick {
		s.effort = quickEffort()
	}
	s.target = target{
		kubeconfig: filepath.Join(dir, "kubeconfig"),
		namespace:  fmt.Sprintf("bench-%x", time.Now().UnixNano()&0xffffffff),
		service:    serviceName,
		ports:      peer.Ports(),
	}
	config, err := loadKubeconfig(o.kubeconfig)
	if err != nil {
		return nil, err
	}
	if err := writeKubeconfig(config, s.target.kubeconfig); err != nil {
		return nil, err
	}
	s.proxyListener, err = new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("bench: listen for proxy: %w", err)
	}
	if err := s.prepare(ctx, config); err != nil {
		return nil, errors.Join(err, s.cleanUp(ctx))
	}
	return s, nil
}

// prepare creates the proxy, its kubeconfig and the pod.
func (s *testbed) prepare(ctx context.Context, config *clientcmdapi.Config) error {
	server, err := redirect(config, s.proxyListener.Addr().String())
	if err != nil {
		return err
	}
	s.proxy = netem.New(server, 0)
	if err := writeKubeconfig(config, s.slowKubeconfig); err != nil {
		return err
	}
	return s.startPod(ctx)
}

// cleanUp removes the testbed, even if ctx has ended.
func (s *testbed) cleanUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	_ = s.proxyListener.Close() // the proxy may have closed it
	return s.runKubectl(ctx, "", "delete", "namespace", s.target.namespace, "--ignore-not-found", "--wait=false")
}

// startPod creates the pod and its Service and waits until both are ready.
func (s *testbed) startPod(ctx context.Context) error {
	if err := s.runKubectl(ctx, manifest(s.target), "apply", "-f", "-"); err != nil {
		return err
	}
	return s.runKubectl(ctx, "", "wait", "--namespace", s.target.namespace, "--timeout="+podReadyTimeout.String(),
		"--for=jsonpath={.endpoints[0].conditions.ready}=true", "endpointslice", "-l", "kubernetes.io/service-name="+serviceName)
}

// runKubectl runs kubectl with the given input.
func (s *testbed) runKubectl(ctx context.Context, input string, args ...string) error {
	cmd := exec.CommandContext(ctx, s.kubectl, append([]string{"--kubeconfig", s.target.kubeconfig}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	cmd.Env = append(os.Environ(), cacheEnv(filepath.Dir(s.slowKubeconfig)))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("bench: run kubectl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// manifest returns the namespace, the pod and its Service.
func manifest(to target) string {
	var ports strings.Builder
	for _, port := range to.ports {
		fmt.Fprintf(&ports, "{name: p%[1]d, port: %[1]d},", port)
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: Namespace
metadata: {name: %[1]s}
---
apiVersion: v1
kind: Pod
metadata: {name: %[2]s, namespace: %[1]s, labels: {app: %[2]s}}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  containers:
    - name: peer
      image: kubeshore.test/peer:1
      imagePullPolicy: IfNotPresent
      readinessProbe: {httpGet: {path: /, port: %[4]d}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: %[2]s, namespace: %[1]s}
spec: {selector: {app: %[2]s}, ports: [%[3]s]}
`, to.namespace, to.service, ports.String(), peer.HTTP)
}

// loadKubeconfig reads the current context of a kubeconfig and embeds the
// files that it refers to.
func loadKubeconfig(path string) (*clientcmdapi.Config, error) {
	config, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return nil, fmt.Errorf("bench: load kubeconfig: %w", err)
	}
	if err := errors.Join(clientcmdapi.MinifyConfig(config), clientcmd.ResolveLocalPaths(config)); err != nil {
		return nil, fmt.Errorf("bench: load kubeconfig: %w", err)
	}
	if err := clientcmdapi.FlattenConfig(config); err != nil {
		return nil, fmt.Errorf("bench: load kubeconfig: %w", err)
	}
	return config, nil
}

func writeKubeconfig(config *clientcmdapi.Config, path string) error {
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("bench: write kubeconfig: %w", err)
	}
	return nil
}

// redirect replaces the server's address in the kubeconfig with another
// address that leads to the same API server, and returns the original one.
func redirect(config *clientcmdapi.Config, to string) (server string, err error) {
	for _, cluster := range config.Clusters { // exactly one
		u, err := url.Parse(cluster.Server)
		if err != nil {
			return "", fmt.Errorf("bench: parse server URL: %w", err)
		}
		port := u.Port()
		if port == "" {
			port = "443"
		}
		server = net.JoinHostPort(u.Hostname(), port)
		if cluster.TLSServerName == "" {
			cluster.TLSServerName = u.Hostname()
		}
		u.Host = to
		cluster.Server = u.String()
	}
	return server, nil
}
