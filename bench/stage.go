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
	service = "peer"
	podTime = 2 * time.Minute // for the pod to be ready
)

// stage is what the measures take place on: a pod of package peer in a
// namespace of its own, and a slow way to the API server.
type stage struct {
	kubectl       string
	target        target // by the usual way
	slow          string // the kubeconfig of the slow way
	proxy         *netem.Proxy
	proxyListener net.Listener
	effort        effort
}

// setUp makes the stage; files go to the folder dir. The proxy doesn't run yet.
func setUp(ctx context.Context, o options, dir string) (*stage, error) {
	s := &stage{kubectl: o.kubectl, slow: filepath.Join(dir, "slow.kubeconfig"), effort: full()}
	if o.quick {
		s.effort = quick()
	}
	s.target = target{
		kubeconfig: filepath.Join(dir, "kubeconfig"),
		namespace:  fmt.Sprintf("bench-%x", time.Now().UnixNano()&0xffffffff),
		service:    service,
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
	server, err := redirect(config, s.proxyListener.Addr().String())
	if err == nil {
		s.proxy = netem.New(server, 0)
		err = writeKubeconfig(config, s.slow)
	}
	if err == nil {
		err = s.startPod(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.tearDown(ctx))
	}
	return s, nil
}

// tearDown takes back what setUp has made, even if ctx has ended.
func (s *stage) tearDown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	_ = s.proxyListener.Close() // the proxy may have done it
	return s.run(ctx, "", "delete", "namespace", s.target.namespace, "--ignore-not-found", "--wait=false")
}

// startPod makes the pod and its Service and waits until both are ready.
func (s *stage) startPod(ctx context.Context) error {
	if err := s.run(ctx, manifest(s.target), "apply", "-f", "-"); err != nil {
		return err
	}
	return s.run(ctx, "", "wait", "--namespace", s.target.namespace, "--timeout="+podTime.String(),
		"--for=jsonpath={.endpoints[0].conditions.ready}=true", "endpointslice", "-l", "kubernetes.io/service-name="+service)
}

// run runs kubectl with the input given.
func (s *stage) run(ctx context.Context, input string, args ...string) error {
	cmd := exec.CommandContext(ctx, s.kubectl, append([]string{"--kubeconfig", s.target.kubeconfig}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	cmd.Env = append(os.Environ(), cacheIn(filepath.Dir(s.slow)))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("bench: run kubectl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// manifest is the namespace, the pod, and its Service.
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

// loadKubeconfig reads the current context of a kubeconfig, with the content
// of the files that it names in place of their names.
func loadKubeconfig(path string) (*clientcmdapi.Config, error) {
	config, err := clientcmd.LoadFromFile(path)
	if err == nil {
		err = errors.Join(clientcmdapi.MinifyConfig(config), clientcmd.ResolveLocalPaths(config))
	}
	if err == nil {
		err = clientcmdapi.FlattenConfig(config)
	}
	if err != nil {
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

// redirect makes the kubeconfig name another address, which leads to the same
// API server, and returns that server's own.
func redirect(config *clientcmdapi.Config, to string) (server string, err error) {
	for _, cluster := range config.Clusters { // there is one
		u, err := url.Parse(cluster.Server)
		if err != nil {
			return "", fmt.Errorf("bench: read kubeconfig: %w", err)
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
