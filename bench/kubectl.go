package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
)

// kubectl is `kubectl port-forward` of all the ports, each to a free one.
type kubectl struct {
	title, program, dir string
	env                 []string
	process             *process
	addresses           map[uint16]string // where each port is
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

// parseForwardings reads from what kubectl prints where each port is.
func parseForwardings(log string) map[uint16]string {
	at := make(map[uint16]string)
	line := regexp.MustCompile(`(?m)^Forwarding from (\S+:\d+) -> (\d+)$`)
	for _, match := range line.FindAllStringSubmatch(log, -1) {
		port, err := strconv.ParseUint(match[2], 10, 16)
		if err == nil {
			at[uint16(port)] = match[1]
		}
	}
	return at
}

// cacheEnv is the setting by which kubectl keeps what it learns of the API in a
// folder, so that it starts fast, and not in the user's home.
func cacheEnv(dir string) string { return "KUBECACHEDIR=" + filepath.Join(dir, "cache") }
