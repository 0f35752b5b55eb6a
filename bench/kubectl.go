package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
)

// kubectl is `kubectl port-forward` of all ports, each to a free local port.
type kubectl struct {
	title, program, dir string
	env                 []string
	process             *process
	addresses           map[uint16]string // by remote port
}

func (k *kubectl) name() string { return k.title }

func (k *kubectl) start(ctx context.Context, to target) error {
	ports := make([]string, len(to.ports))
	for i, port := range to.ports {
		ports[i] = fmt.Sprintf(":%d", port)
	}
	args := append([]string{
		"port-forward", "--kubeconfig", to.kubeconfig, "--namespace", to.namespace,
		"--address", "127.0.0.1", "service/" + to.service,
	}, ports...)
	env := append([]string{cacheEnv(filepath.Dir(k.dir))}, k.env...)
	var err error
	if k.process, err = startProcess(ctx, k.dir, env, k.program, args...); err != nil {
		return err
	}
	return k.process.waitForLog(ctx, func(log string) bool {
		k.addresses = parseForwardings(log)
		return len(k.addresses) == len(to.ports)
	})
}

func (k *kubectl) dial(ctx context.Context, port uint16) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", k.addresses[port])
}

func (k *kubectl) pid() int    { return k.process.cmd.Process.Pid }
func (k *kubectl) stop() error { return k.process.stop() }

// parseForwardings returns the local address of each forwarded port from
// kubectl's output.
func parseForwardings(output string) map[uint16]string {
	addresses := make(map[uint16]string)
	pattern := regexp.MustCompile(`(?m)^Forwarding from (\S+:\d+) -> (\d+)$`)
	for _, match := range pattern.FindAllStringSubmatch(output, -1) {
		port, err := strconv.ParseUint(match[2], 10, 16)
		if err == nil {
			addresses[uint16(port)] = match[1]
		}
	}
	return addresses
}

// cacheEnv returns the environment variable that makes kubectl cache API
// discovery below dir instead of in the home directory, so that it starts
// fast.
func cacheEnv(dir string) string { return "KUBECACHEDIR=" + filepath.Join(dir, "cache") }
